"""How accepted and rejected answers are written, and how the accepted ones are read back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.jsonio import as_row, read_jsonl
from core.records import AcceptedSample, Example, TeacherAnswer, Verdict
from core.teacher.samples import sample_id, sample_row


def accepted_row(example: Example, answer: TeacherAnswer) -> dict[str, Any]:
    """The mapping written for an accepted answer. `label` is what the student learns: the teacher's,
    which the reasoning argues for; it differs from gold only where label_mismatch is not a rule."""
    return {
        "sample_id": sample_id(answer),
        "example_id": answer.example_id,
        "text": example.text,
        "label": answer.label,
        "reasoning": answer.reasoning,
        "teacher_pred_label": answer.label,
        "parse_source": answer.parse_source,
        "gold_label": example.label,
        "hinted": answer.hinted,
    }


def rejected_row(
    example: Example, answer: TeacherAnswer, verdicts: tuple[Verdict, ...], reason: str
) -> dict[str, Any]:
    """The mapping written for a rejected answer: the teacher's row, all verdicts and the first reason."""
    row = sample_row(example, answer)
    return {**row, "reject_reason": reason, "verdicts": [as_row(v) for v in verdicts]}


def read_accepted(path: Path) -> Iterator[AcceptedSample]:
    """The samples of an accepted_samples.jsonl, in order."""
    for row in read_jsonl(path):
        yield AcceptedSample(
            sample_id=row["sample_id"],
            example_id=row["example_id"],
            text=row["text"],
            label=row["label"],
            reasoning=row["reasoning"],
            teacher_label=row["teacher_pred_label"],
            parse_source=row["parse_source"],
        )
