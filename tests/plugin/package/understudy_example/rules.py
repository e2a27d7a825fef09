"""A rejection rule."""

from __future__ import annotations

from core.config import RejectionRule, RuleContext
from core.records import Example, TeacherAnswer
from understudy import register_rule


@register_rule("shouts")
class Shouts(RejectionRule):
    """The reasoning has too many exclamation marks."""

    remedy = "raise max_marks of shouts in rejection.rules"

    max_marks: int = 3
    """Most exclamation marks."""

    def reject(self, answer: TeacherAnswer, example: Example, context: RuleContext) -> str | None:
        marks = (answer.reasoning or "").count("!")
        return f"{marks} exclamation marks" if marks > self.max_marks else None
