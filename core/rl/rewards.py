"""The built-in rewards: functions from an answer and its example to a number from 0 to 1.

No reward grows with the length of an answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from core.config.reinforce import REWARDS, reward
from core.evaluation.faithfulness import MIN_QUOTE
from core.labels import BINARY, LabelSet
from core.prompts import TargetWording
from core.records import Example
from core.rejection.cited import checkable, cited, missing_quotes, quotes
from core.student.wording import ParsedCompletion, write_answer


@dataclass(frozen=True, slots=True)
class Answer:
    """A student's answer: raw and parsed, its length in tokens, and whether it ended with an end of turn."""

    raw: str
    said: ParsedCompletion
    tokens: int
    ended: bool


@dataclass(frozen=True, slots=True)
class Rubric:
    """The criteria of all rewards, the same for all examples; `weights` by name of reward."""

    wording: TargetWording
    target: str
    rule_ids: tuple[str, ...]
    length_tokens: int
    weights: Mapping[str, float]
    labels: LabelSet = BINARY

    def judge(self, answer: Answer, example: Example) -> dict[str, float]:
        """Return each reward by name, whatever its weight."""
        return {name: REWARDS.get(name).function(answer, example, self) for name in self.weights}

    def total(self, earned: Mapping[str, float]) -> float:
        """Return the weighted sum."""
        return math.fsum(self.weights[name] * value for name, value in earned.items())


@reward("label", weight=1.0)
def label(answer: Answer, example: Example, rubric: Rubric) -> float:
    """The stated label is the gold label; an answer without one is as wrong as one with the other label."""
    return float(answer.said.label == example.label)


@reward("format", weight=0.1)
def in_format(answer: Answer, example: Example, rubric: Rubric) -> float:
    """The answer ended, and is exactly the target's wording of its label and reasoning, except for space."""
    said, words = answer.said, rubric.wording
    if said.label is None or not answer.ended:
        return 0.0
    if rubric.target != "label_only" and not said.reasoning:
        return 0.0
    parts = write_answer(rubric.labels.codes[said.label], said.reasoning or "", words, rubric.target)
    expected = "".join(part.text for part in parts)
    return float("".join(answer.raw.split()) == "".join(expected.split()))


@reward("cites_rule", weight=0.1)
def cites_rule(answer: Answer, example: Example, rubric: Rubric) -> float:
    """The reasoning cites a rule of the rulebook, and no rule that it does not have."""
    found = cited(answer.said.reasoning or "", rubric.rule_ids)
    return float(bool(found) and set(found) <= set(rubric.rule_ids))


@reward("faithful_quote", weight=0.1)
def faithful_quote(answer: Answer, example: Example, rubric: Rubric) -> float:
    """The reasoning quotes the text, and nothing that is not in it."""
    reasoning = answer.said.reasoning or ""
    real = [quote for quote in quotes(reasoning) if checkable(quote, MIN_QUOTE)]
    return float(bool(real) and not missing_quotes(reasoning, example.text, MIN_QUOTE))


@reward("length", weight=0.1)
def length(answer: Answer, example: Example, rubric: Rubric) -> float:
    """1 up to length_tokens, then falling to 0 at twice as many; 0 without a readable label."""
    if answer.said.label is None:
        return 0.0
    over = answer.tokens / rubric.length_tokens - 1
    return min(max(1.0 - over, 0.0), 1.0)
