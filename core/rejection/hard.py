"""Hard texts, whose every answer was rejected: listed with the reasons, and marked in the data.

A text without any answer is neither hard nor not: nobody tried.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.intervals import Difference, Share, difference, share
from core.jsonio import LinesWriter
from core.labels import BINARY, LabelSet
from core.records import Example, SplitName, TeacherAnswer, Verdict

HARD_FILE = "hard_examples.jsonl"
COLUMNS = ("id", "text", "label", "hard")


@dataclass(frozen=True, slots=True)
class Judged:
    """An answer with all verdicts, and the first reason it was rejected for; None: accepted."""

    answer: TeacherAnswer
    verdicts: tuple[Verdict, ...]
    reason: str | None


@dataclass(frozen=True, slots=True)
class Hardness:
    """How many of the answered texts of either gold label are hard, with 95 % intervals; `difference` is
    the positive class's share minus the negative class's."""

    texts: int
    unanswered: int
    by_label: dict[str, Share]
    difference: Difference


def tagged_file(split: SplitName) -> str:
    """The name of a split with its marks."""
    return f"{split}_with_hard_tag.csv"


def is_hard(judged: Sequence[Judged]) -> bool | None:
    """Whether every answer was rejected; None without an answer."""
    return all(each.reason is not None for each in judged) if judged else None


class HardWriter:
    """Writes hard_examples.jsonl and the marked split while texts pass; holds nothing that grows."""

    def __init__(self, folder: Path, split: SplitName, labels: LabelSet = BINARY) -> None:
        self._folder, self._split, self._labels = folder, split, labels
        self._counts: Counter[tuple[int, bool | None]] = Counter()

    def __enter__(self) -> HardWriter:
        with ExitStack() as stack:
            self._hard = stack.enter_context(LinesWriter(self._folder / HARD_FILE))
            path = self._folder / tagged_file(self._split)
            tagged = stack.enter_context(path.open("w", encoding="utf-8", newline=""))
            self._tagged = csv.writer(tagged, lineterminator="\r\n")
            self._tagged.writerow(COLUMNS)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, line: int, example: Example, judged: Sequence[Judged]) -> None:
        """Take in one text, which begins on `line` of its split's file, with its answers in their order."""
        hard = is_hard(judged)
        self._counts[example.label, hard] += 1
        self._tagged.writerow([example.id, example.text, example.label, "" if hard is None else int(hard)])
        if hard:
            self._hard.write(_row(f"{self._split}.csv:{line}", example, judged))

    def hardness(self) -> Hardness:
        """The counts so far."""
        n, labels = self._counts, self._labels
        shares = [share(n[label, True], n[label, True] + n[label, False]) for label in labels]
        return Hardness(
            texts=sum(s.count for s in shares),
            unanswered=sum(n[label, None] for label in labels),
            by_label=dict(zip(labels.codes, shares, strict=True)),
            difference=difference(shares[labels.positive or 0], shares[labels.negative]),
        )


def read_tags(path: Path) -> Iterator[tuple[str, bool | None]]:
    """The ids of a marked split with their marks; None where no answer was given."""
    with path.open(encoding="utf-8", newline="") as f:
        for row in csv.DictReader(f):
            yield row["id"], {"1": True, "0": False}.get(row["hard"])


def _row(place: str, example: Example, judged: Sequence[Judged]) -> dict[str, Any]:
    return {
        "example_id": example.id,
        "place": f"data_splits/{place}",
        "text": example.text,
        "gold_label": example.label,
        "answers": [_answer(each) for each in judged],
    }


def _answer(judged: Judged) -> dict[str, Any]:
    reasons = [{"rule": v.rule, "detail": v.detail} for v in judged.verdicts if v.rejected]
    return {"k_index": judged.answer.sample, "pred_label": judged.answer.label, "reasons": reasons}
