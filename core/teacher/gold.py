"""No teacher: the gold labels themselves, without reasons."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from core.progress import Progress
from core.records import Example, TeacherAnswer
from core.teacher.base import Answered

SOURCE = "gold"
"""The parse source of an answer that nobody gave; rules about reasons do not judge it."""


class GoldTeacher:
    """Answers every text with its gold label and an empty reasoning."""

    model = "gold"

    def answers(self, examples: Iterable[Example], total: int, progress: Progress) -> Iterator[Answered]:
        for done, example in enumerate(examples, start=1):
            progress.update(done, total)
            yield Answered(example, (_answer(example),))

    def facts(self) -> Mapping[str, Any]:
        return {}


def _answer(example: Example) -> TeacherAnswer:
    return TeacherAnswer(
        example_id=example.id,
        sample=0,
        model=GoldTeacher.model,
        raw_output="",
        parse_ok=True,
        parse_source=SOURCE,
        label=example.label,
        reasoning="",
    )
