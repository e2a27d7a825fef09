"""How answers are written to teacher_samples.jsonl, and read back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from core.jsonio import read_jsonl
from core.records import Example, TeacherAnswer
from core.teacher.base import Answered

_SAID = ("reasoning_content", "prompt_tokens", "cached_tokens", "completion_tokens", "latency_s")
"""What only a live teacher's server says; written and read under the record's own names."""


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One written row: the text as it was when it was answered, and the answer."""

    example: Example
    answer: TeacherAnswer


def sample_id(answer: TeacherAnswer) -> str:
    """The name of an answer: its text's id and its sample."""
    return f"{answer.example_id}_k{answer.sample}"


def sample_row(example: Example, answer: TeacherAnswer, *, split: str = "train") -> dict[str, Any]:
    """The mapping that is written for one answer."""
    return {
        "sample_id": sample_id(answer),
        "example_id": answer.example_id,
        "split": split,
        "k_index": answer.sample,
        "text": example.text,
        "gold_label": example.label,
        "raw_output": answer.raw_output,
        "parse_ok": answer.parse_ok,
        "parse_source": answer.parse_source,
        "pred_label": answer.label,
        "reasoning": answer.reasoning,
        "error": answer.error,
        "model": answer.model,
        "finish_reason": answer.finish_reason,
        "temperature": answer.temperature,
        "hinted": answer.hinted,
        **{name: getattr(answer, name) for name in _SAID},
    }


def read_samples(path: Path) -> Iterator[Answered]:
    """The answered texts of a file that the sample stage wrote, a text at a time, in its order."""
    rows = map(_row, read_jsonl(path))
    for _, group in groupby(rows, key=lambda row: row.example.id):
        together = list(group)
        yield Answered(together[0].example, tuple(row.answer for row in together))


def _row(row: dict[str, Any]) -> SampleRow:
    answer = TeacherAnswer(
        example_id=row["example_id"],
        sample=row["k_index"],
        model=row["model"],
        raw_output=row["raw_output"],
        parse_ok=row["parse_ok"],
        parse_source=row["parse_source"],
        label=row["pred_label"],
        reasoning=row["reasoning"],
        error=row["error"],
        finish_reason=row["finish_reason"],
        temperature=row["temperature"],
        hinted=row["hinted"],
        **{name: row[name] for name in _SAID},
    )
    return SampleRow(Example(row["example_id"], row["text"], row["gold_label"]), answer)
