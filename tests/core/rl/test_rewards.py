"""Each reward says one thing, from 0 to 1, and none is earned by saying more."""

from __future__ import annotations

import pytest

from core.config.reinforce import RewardWeights
from core.prompts import TargetWording
from core.records import Example
from core.rl.rewards import REWARDS, Rubric

EXAMPLE = Example("t1", "You have won a prize, call now", 1)
WHOLE = '<label>1</label>\n<reason>It says "won a prize" [R1].</reason>'


def rubric(target: str = "label_first", **weights: float) -> Rubric:
    return Rubric(TargetWording(), target, ("R1", "R2"), 20, RewardWeights(**weights))


def earned(
    raw: str, *, target: str = "label_first", tokens: int = 10, ended: bool = True
) -> dict[str, float]:
    of = rubric(target)
    return of.judge(of.read(raw, tokens, ended=ended), EXAMPLE)


def test_every_reward_has_a_weight_and_every_weight_a_reward() -> None:
    assert set(REWARDS) == set(RewardWeights.model_fields)


def test_a_whole_true_answer_earns_everything() -> None:
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
def test_each_target_s_own_wording_is_in_format(target: str, raw: str) -> None:
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
def test_what_is_missing_or_untrue_costs_its_own_reward(raw: str, lost: set[str]) -> None:
    assert {name for name, value in earned(raw).items() if value == 0} == lost


@pytest.mark.parametrize(("tokens", "value"), [(1, 1.0), (20, 1.0), (30, 0.5), (40, 0.0), (400, 0.0)])
def test_length_is_free_up_to_the_bound_and_then_falls(tokens: int, value: float) -> None:
    assert earned(WHOLE, tokens=tokens)["length"] == pytest.approx(value)


def test_saying_more_never_earns_more() -> None:
    """The same answer, ever longer: no reward and no sum of them rises."""
    of, before = rubric(), None
    for more in range(0, 60, 5):
        raw = WHOLE.replace("[R1].", "[R1]." + " indeed" * more)
        now = of.judge(of.read(raw, 10 + more, ended=True), EXAMPLE)
        assert before is None or all(now[name] <= before[name] for name in now)
        before = now


def test_the_total_is_the_weighted_sum() -> None:
    of = rubric(label=2.0, format=0.5, cites_rule=0.0, faithful_quote=0.0, length=0.25)
    assert of.total({"label": 1, "format": 1, "cites_rule": 1, "faithful_quote": 0, "length": 0.5}) == 2.625


def test_rewards_that_are_all_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing to learn from"):
        RewardWeights(label=0, format=0, cites_rule=0, faithful_quote=0, length=0)
