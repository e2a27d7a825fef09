"""What an answer earns: named functions from an answer and its text to a number from 0 to 1.

None rewards saying more: length has a bound, and what is written without a readable label earns nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from core.config.reinforce import RewardWeights
from core.evaluation.faithfulness import MIN_QUOTE
from core.prompts import TargetWording
from core.records import Example
from core.rejection.cited import checkable, cited, missing_quotes, quotes
from core.student.wording import Said, read_answer, write_answer


@dataclass(frozen=True, slots=True)
class Answer:
    """What a student said: the text, what was read of it, its tokens, and whether it ended by itself."""

    raw: str
    said: Said
    tokens: int
    ended: bool


@dataclass(frozen=True, slots=True)
class Rubric:
    """What answers are held against, the same for all texts."""

    wording: TargetWording
    target: str
    rule_ids: tuple[str, ...]
    length_tokens: int
    weights: RewardWeights

    def read(self, raw: str, tokens: int, *, ended: bool) -> Answer:
        """An answer, read as evaluations read it."""
        return Answer(raw, read_answer(raw, self.wording, self.target), tokens, ended)

    def judge(self, answer: Answer, example: Example) -> dict[str, float]:
        """Every reward, whatever its weight."""
        return {name: reward(answer, example, self) for name, reward in REWARDS.items()}

    def total(self, earned: Mapping[str, float]) -> float:
        """The weighted sum."""
        return math.fsum(getattr(self.weights, name) * value for name, value in earned.items())


def label(answer: Answer, example: Example, rubric: Rubric) -> float:
    """The stated label is the gold one; an answer that states none is as wrong as another label."""
    return float(answer.said.label == example.label)


def in_format(answer: Answer, example: Example, rubric: Rubric) -> float:
    """The answer is the target's wording of what it says, to the letter but for space, and it ended."""
    said, words = answer.said, rubric.wording
    if said.label is None or not answer.ended:
        return 0.0
    if rubric.target != "label_only" and not said.reasoning:
        return 0.0
    parts = write_answer(said.label, said.reasoning or "", words, rubric.target)
    return float(_spaceless(answer.raw) == _spaceless("".join(part.text for part in parts)))


def cites_rule(answer: Answer, example: Example, rubric: Rubric) -> float:
    """The reasoning cites a rule that exists and none that does not."""
    found = cited(answer.said.reasoning or "", rubric.rule_ids)
    return float(bool(found) and set(found) <= set(rubric.rule_ids))


def faithful_quote(answer: Answer, example: Example, rubric: Rubric) -> float:
    """The reasoning quotes something, and all that it quotes is in the text."""
    reasoning = answer.said.reasoning or ""
    real = [quote for quote in quotes(reasoning) if checkable(quote, MIN_QUOTE)]
    return float(bool(real) and not missing_quotes(reasoning, example.text, MIN_QUOTE))


def length(answer: Answer, example: Example, rubric: Rubric) -> float:
    """1 up to the bound, from there falling to 0 at twice the bound; 0 where no label can be read."""
    if answer.said.label is None:
        return 0.0
    over = answer.tokens / rubric.length_tokens - 1
    return min(max(1.0 - over, 0.0), 1.0)


Reward = Callable[[Answer, Example, Rubric], float]
REWARDS: Mapping[str, Reward] = {
    "label": label,
    "format": in_format,
    "cites_rule": cites_rule,
    "faithful_quote": faithful_quote,
    "length": length,
}


def _spaceless(text: str) -> str:
    return "".join(text.split())
