"""Each reward measures one thing from 0 to 1, and none grows with the length of an answer."""

from __future__ import annotations

import unicodedata

import pytest

from core.config import REWARDS, ReinforceConfig, reward, rewards_code
from core.prompts import TargetWording
from core.records import Example
from core.rl.rewards import Answer, Rubric
from core.student.conversation import parse_completion

EXAMPLE = Example("t1", "You have won a prize, call now", 1)
WHOLE = '<label>1</label>\n<reason>It says "won a prize" [R1].</reason>'


def rubric(target: str = "label_first", **weights: float) -> Rubric:
    return Rubric(TargetWording(), target, ("R1", "R2"), 20, ReinforceConfig(rewards=weights).rewards)


def answer(raw: str, tokens: int, *, ended: bool, target: str = "label_first") -> Answer:
    return Answer(raw, parse_completion(raw, TargetWording(), target), tokens, ended)


def earned(
    raw: str, *, target: str = "label_first", tokens: int = 10, ended: bool = True
) -> dict[str, float]:
    return rubric(target).judge(answer(raw, tokens, ended=ended, target=target), EXAMPLE)


def test_default_weights_are_those_of_the_built_in_rewards() -> None:
    defaults = {"label": 1.0, "format": 0.1, "cites_rule": 0.1, "faithful_quote": 0.1, "length": 0.1}
    assert ReinforceConfig().rewards == defaults
    assert ReinforceConfig(rewards={"length": 0.5}).rewards == {**defaults, "length": 0.5}


def test_a_reward_of_another_package_counts_where_the_config_names_it() -> None:
    @reward("is_polite", weight=0.3)
    def is_polite(answer: Answer, example: Example, rubric: Rubric) -> float:
        return float("please" in answer.raw)

    assert "is_polite" not in rubric().weights
    assert rewards_code(rubric().weights) == {}
    of = rubric(is_polite=0.2)
    found = of.judge(answer("<label>1</label> please", 4, ended=True), EXAMPLE)
    assert found["is_polite"] == 1.0
    assert of.total({"is_polite": 1.0}) == 0.2
    assert len(rewards_code(of.weights)["rewards_code"]["is_polite"]) == 64


def test_an_unknown_reward_is_rejected_with_the_closest_name() -> None:
    with pytest.raises(ValueError, match="did you mean 'length'"):
        ReinforceConfig(rewards={"lenght": 0.5})


def test_a_complete_correct_answer_earns_every_reward() -> None:
    assert set(earned(WHOLE).values()) == {1.0}


@pytest.mark.parametrize(
    ("target", "raw"),
    [
        ("label_only", "<label>1</label>"),
        ("label_only", " <label> 1 </label>\n"),
        ("label_first", WHOLE),
        ("reason_first", '<reason>It says "won a prize" [R1].</reason>\n<label>1</label>'),
        ("reason_first", r"<reason>It says <\/reason> [R1].</reason><label>1</label>"),
    ],
)
def test_each_targets_wording_earns_the_format_reward(target: str, raw: str) -> None:
    assert earned(raw, target=target)["format"] == 1
    assert earned(raw, target=target, ended=False)["format"] == 0
    assert earned(raw + " And more.", target=target)["format"] == 0


@pytest.mark.parametrize(
    ("raw", "lost"),
    [
        (WHOLE.replace("<label>1", "<label>0"), {"label"}),
        (WHOLE.replace("[R1]", ""), {"cites_rule"}),
        (WHOLE.replace("[R1]", "[R1, R7]"), {"cites_rule"}),
        (WHOLE.replace("won a prize", "won the lottery"), {"faithful_quote"}),
        (WHOLE.replace('"won a prize"', "so"), {"faithful_quote"}),
        (WHOLE.replace('"won a prize"', '"a"'), {"faithful_quote"}),
        ("<label>1</label>", {"format", "cites_rule", "faithful_quote"}),
        ("I think it is spam", set(REWARDS)),
        ("", set(REWARDS)),
    ],
)
def test_each_defect_loses_its_own_reward(raw: str, lost: set[str]) -> None:
    assert {name for name, value in earned(raw).items() if value == 0} == lost


@pytest.mark.parametrize(("tokens", "value"), [(1, 1.0), (20, 1.0), (30, 0.5), (40, 0.0), (400, 0.0)])
def test_the_length_reward_falls_beyond_the_bound(tokens: int, value: float) -> None:
    assert earned(WHOLE, tokens=tokens)["length"] == pytest.approx(value)


def test_a_longer_answer_never_earns_more() -> None:
    """With growing length of an answer, no reward and no weighted sum rises."""
    of, before = rubric(), None
    for more in range(0, 60, 5):
        raw = WHOLE.replace("[R1].", "[R1]." + " indeed" * more)
        now = of.judge(answer(raw, 10 + more, ended=True), EXAMPLE)
        assert before is None or all(now[name] <= before[name] for name in now)
        before = now


def test_the_total_is_the_weighted_sum() -> None:
    of = rubric(label=2.0, format=0.5, cites_rule=0.0, faithful_quote=0.0, length=0.25)
    assert of.total({"label": 1, "format": 1, "cites_rule": 1, "faithful_quote": 0, "length": 0.5}) == 2.625


def test_weights_that_are_all_zero_are_rejected() -> None:
    with pytest.raises(ValueError, match="nothing to learn from"):
        ReinforceConfig(rewards=dict.fromkeys(REWARDS.built_in(), 0.0))


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_quote_in_another_unicode_form_earns_its_reward(form: str) -> None:
    of = rubric()
    raw = '<label>1</label>\n<reason>It says "caf\u00e9 gratuit" [R1].</reason>'
    raw = unicodedata.normalize(form, raw)  # type: ignore[arg-type]  # one of its literals
    for text in ("un caf\u00e9 gratuit", "un cafe\u0301 gratuit"):
        assert of.judge(answer(raw, 10, ended=True), Example("t", text, 1))["faithful_quote"] == 1
    assert of.judge(answer(raw, 10, ended=True), Example("t", "un cafe gratuit", 1))["faithful_quote"] == 0


@pytest.mark.parametrize("quote", ["ne\u0301", "n\u00e9", "\u200bpr\u200b", "p. "])
def test_a_quotes_length_is_that_of_its_normal_form(quote: str) -> None:
    assert earned(WHOLE.replace("won a prize", quote))["faithful_quote"] == 0


@pytest.mark.parametrize(("cited", "value"), [("R1-R2", 1), ("R1\u2013R3", 0), ("R1 to R2", 1), ("R1-3", 0)])
def test_a_range_of_rules_cites_each_of_them(cited: str, value: float) -> None:
    assert earned(WHOLE.replace("R1", cited))["cites_rule"] == value
