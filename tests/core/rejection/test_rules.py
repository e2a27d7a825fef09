"""Each rule rejects what its description states, and nothing else."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from core.config import RULES, RejectionConfig, RejectionRule, RuleContext, key_fields, rule
from core.records import Example, LabelSet, TeacherAnswer
from core.rejection.rules import judge
from core.rejection.stage import AcceptedReasonings

EXAMPLE = Example("a", "You have WON a prize, I can't believe R9", 1)
GOOD = TeacherAnswer("a", 0, "m", "raw", True, "json", 1, 'It says "You have WON", so [R1] applies.')
UNREAD = dataclasses.replace(
    GOOD, parse_ok=False, parse_source=None, label=None, reasoning=None, error="no_label"
)


def context() -> RuleContext:
    return RuleContext(("R1", "R2"), LabelSet.binary(("spam",), ("ham",)))


def verdict(name: str | dict[str, Any], answer: TeacherAnswer, ctx: RuleContext | None = None) -> str | None:
    """The detail where the rule rejects, None where it does not."""
    config = RejectionConfig.model_validate({"rules": [name]})
    (found,) = judge(config, answer, EXAMPLE, ctx or context())
    return found.detail if found.rejected else None


def says(reasoning: str, **more: Any) -> TeacherAnswer:
    return dataclasses.replace(GOOD, reasoning=reasoning, **more)


CASES: list[tuple[str | dict[str, Any], TeacherAnswer, str | None]] = [
    ("unparsed", UNREAD, "no_label"),
    ("truncated", dataclasses.replace(UNREAD, error="truncated"), "cut inside its JSON or tags"),
    ("truncated", says("whole", finish_reason="length"), "the token limit was reached"),
    ("truncated", says("whole", finish_reason="stop"), None),
    ("label_mismatch", says("r", label=0), "says 0, gold is 1"),
    ("too_short", says("  nineteen chars here  "), "19 characters, at least 20"),
    ("too_short", says("twenty characters ok"), None),
    ({"rule": "too_short", "min_chars": 3}, says("abc"), None),
    ({"rule": "too_long", "max_chars": 3}, says("abcd"), "4 characters, at most 3"),
    ({"rule": "too_long", "max_chars": 3}, says(" abc "), None),
    ("no_rule_cited", says("it wins"), "cites no rule of the rulebook"),
    ("no_rule_cited", says("see R9"), "cites no rule of the rulebook"),
    ("no_rule_cited", says("see R9 and R2"), None),
    ("unknown_rule", says("see R9, R1 and R9"), "cites R9"),
    ("unknown_rule", says('it says "believe R9"'), None),
    ("unknown_rule", says("it wins"), None),
    ("quote_not_in_text", says('it says "You lost"'), 'not in the text: "You lost"'),
    ({"rule": "quote_not_in_text", "max_missing": 1}, says('it says "You lost"'), None),
    ({"rule": "quote_not_in_text", "min_chars": 9}, says('it says "You lost"'), None),
    ("names_gold_label", says("as the Gold  Label shows"), 'says "gold label"'),
    ("names_gold_label", says("gold labels in jewellery"), None),
    (
        {"rule": "names_gold_label", "phrases": ["labelled as {label}"]},
        says("it is labelled as Spam"),
        'says "labelled as spam"',
    ),
    (
        {"rule": "names_gold_label", "phrases": ["labelled as {label}"]},
        says("it is labelled as ham"),
        None,
    ),
    ("refuses", says("I’m sorry, but I cannot judge this."), 'says "i\'m sorry"'),
    ("refuses", says('It says "I can\'t believe", so [R1].'), None),
    ("refuses", says("x" * 200 + " I cannot"), None),
    ("refuses", dataclasses.replace(UNREAD, raw_output="As an AI, no."), 'says "as an ai"'),
]


@pytest.mark.parametrize(("name", "answer", "detail"), CASES)
def test_each_rule_rejects_as_documented(name: Any, answer: TeacherAnswer, detail: str | None) -> None:
    assert verdict(name, answer) == detail


@pytest.mark.parametrize("name", tuple(RULES))
def test_a_good_answer_passes_every_rule(name: str) -> None:
    assert verdict(name, GOOD) is None


def test_a_repeated_reasoning_is_accepted_as_often_as_configured() -> None:
    accepted = AcceptedReasonings()
    ctx = dataclasses.replace(context(), times_accepted=accepted.times)
    twice = {"rule": "repeats", "max_times": 2}
    accepted.add("It  WINS")
    assert verdict("repeats", says("it wins"), ctx) == "accepted 1 times before"
    assert verdict(twice, says("it wins"), ctx) is None
    accepted.add("it wins")
    assert verdict(twice, says("it wins"), ctx) == "accepted 2 times before"
    assert verdict("repeats", says("it loses"), ctx) is None


def test_rules_about_reasons_ignore_unparsed_answers() -> None:
    every = RejectionConfig.model_validate({"rules": tuple(RULES)})
    unread = [v.rule for v in judge(every, UNREAD, EXAMPLE, context()) if v.rejected]
    gold = TeacherAnswer("a", 0, "gold", "", True, "gold", 1, "")
    assert unread == ["unparsed"]
    assert not any(v.rejected for v in judge(every, gold, EXAMPLE, context()))


def test_all_verdicts_are_kept_in_the_order_of_the_list() -> None:
    rules = RejectionConfig.model_validate({"rules": ["too_short", "label_mismatch", "no_rule_cited"]})
    found = judge(rules, says("no", label=0), EXAMPLE, context())
    assert [(v.rule, v.rejected) for v in found] == [
        ("too_short", True), ("label_mismatch", True), ("no_rule_cited", True),
    ]  # fmt: skip


def test_unparsed_answer_is_never_accepted() -> None:
    rules = RejectionConfig.model_validate({"rules": ["too_short"]})
    assert [v.rule for v in judge(rules, UNREAD, EXAMPLE, context()) if v.rejected] == ["unparsed"]


@given(reasoning=st.text(), text=st.text(), raw=st.text())
def test_no_answer_makes_a_rule_raise(reasoning: str, text: str, raw: str) -> None:
    every = RejectionConfig.model_validate({"rules": tuple(RULES)})
    judge(every, says(reasoning, raw_output=raw), Example("a", text, 0), context())


def test_plug_in_rule_works_in_a_config_and_is_in_the_cache_key(request: pytest.FixtureRequest) -> None:
    @rule("shouts")
    class Shouts(RejectionRule):
        """The reasoning has too many exclamation marks."""

        max_marks: int = 3

        def reject(self, answer: TeacherAnswer, example: Example, context: RuleContext) -> str | None:
            marks = (answer.reasoning or "").count("!")
            return f"{marks} exclamation marks" if marks > self.max_marks else None

    request.addfinalizer(lambda: RULES.remove("shouts"))
    assert verdict("shouts", says("No!!!")) is None
    assert verdict({"rule": "shouts", "max_marks": 2}, says("No!!!")) == "3 exclamation marks"
    (built_in, shouts) = key_fields(RejectionConfig.model_validate({"rules": ["too_short", "shouts"]}))[
        "rules"
    ]
    assert built_in == {"rule": "too_short", "min_chars": 20}
    assert (shouts["rule"], shouts["max_marks"], shouts["version"], len(shouts["code"])) == (
        "shouts",
        3,
        1,
        64,
    )


@pytest.mark.parametrize(
    ("settings", "place", "message"),
    [
        ("to_short", ("rules", 0), "did you mean 'too_short'"),
        ({"min_chars": 3}, ("rules", 0), "a rule is a name"),
        (
            {"rule": "too_short", "min_chars": 0},
            ("rules", 0, "too_short", "min_chars"),
            "greater than or equal",
        ),
        ({"rule": "too_short", "min_chars": "3"}, ("rules", 0, "too_short", "min_chars"), "valid integer"),
        ({"rule": "too_short", "min_char": 3}, ("rules", 0, "too_short", "min_char"), "not permitted"),
    ],
)
def test_invalid_rule_settings_are_reported_with_their_key(
    settings: Any, place: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        RejectionConfig.model_validate({"rules": [settings]})
    (error,) = caught.value.errors()
    assert error["loc"] == place
    assert message in error["msg"]
