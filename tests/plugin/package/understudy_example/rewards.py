"""A reward."""

from __future__ import annotations

from core.records import Example
from core.rl.rewards import Answer, Rubric
from understudy import register_reward


@register_reward("is_short")
def is_short(answer: Answer, example: Example, rubric: Rubric) -> float:
    """The answer has at most ten tokens."""
    return float(answer.tokens <= 10)
