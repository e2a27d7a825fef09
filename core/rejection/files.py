"""The files of the reject stage: accepted and rejected answers, hard texts, the marked split, the summary."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from core.intervals import Difference, Share, difference, share
from core.jsonio import LinesWriter, Stored, as_row, read_jsonl
from core.labels import BINARY, LabelSet
from core.records import AcceptedSample, Example, SplitName, TeacherAnswer, Verdict
from core.rejection.funnel import SURPLUS, Funnel, Skew
from core.teacher.base import AnswerAgreement, FirstAnswers, RecordedLabels, TeacherLedger
from core.teacher.samples import sample_id, sample_row

ACCEPTED_FILE = "accepted_samples.jsonl"
HARD_FILE = "hard_examples.jsonl"
SUMMARY_FILE = "teacher_summary.json"


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """An answer with all verdicts; `surplus` if its text already had as many accepted ones as are kept."""

    answer: TeacherAnswer
    verdicts: tuple[Verdict, ...]
    surplus: bool = False

    @property
    def reason(self) -> str | None:
        """The first rule that rejected it, or SURPLUS; None if it is accepted."""
        rejecting = (verdict.rule for verdict in self.verdicts if verdict.rejected)
        return next(rejecting, SURPLUS if self.surplus else None)


def accepted_row(example: Example, answer: TeacherAnswer) -> dict[str, Any]:
    """Return the mapping that is written for an accepted answer.

    `label` is what the student learns: the teacher's, for which the reasoning argues; it differs from gold
    only where label_mismatch is not a rule.
    """
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


def rejected_row(example: Example, judged: JudgedAnswer) -> dict[str, Any]:
    """Return the mapping that is written for a rejected answer: the teacher's row, reason and verdicts."""
    row = sample_row(example, judged.answer)
    return {**row, "reject_reason": judged.reason, "verdicts": [as_row(v) for v in judged.verdicts]}


def read_accepted(path: Path) -> Iterator[AcceptedSample]:
    """Yield the samples of an accepted_samples.jsonl, in order."""
    names = [f.name for f in fields(AcceptedSample)]
    for row in read_jsonl(path):
        yield AcceptedSample(**{name: row[name] for name in names})


@dataclass(frozen=True, slots=True)
class Hardness:
    """How many of the answered texts of either gold label are hard, with 95 % intervals; `difference` is
    the positive class's share minus the negative class's."""

    texts: int
    unanswered: int
    by_label: dict[str, Share]
    difference: Difference


def tagged_file(split: SplitName) -> str:
    """Return the file name of a split with its marks."""
    return f"{split}_with_hard_tag.csv"


def is_hard(judged: Sequence[JudgedAnswer]) -> bool | None:
    """Return whether a text is hard: every answer was rejected; None without an answer."""
    return all(each.reason is not None for each in judged) if judged else None


class HardWriter:
    """Writes hard_examples.jsonl and the marked split as texts pass; a context manager in constant memory."""

    def __init__(self, folder: Path, split: SplitName, labels: LabelSet = BINARY) -> None:
        self._split, self._labels = split, labels
        self._counts: Counter[tuple[int, bool | None]] = Counter()
        self._hard = LinesWriter(folder / HARD_FILE)
        self._file = (folder / tagged_file(split)).open("w", encoding="utf-8", newline="")
        self._tagged = csv.writer(self._file, lineterminator="\r\n")
        self._tagged.writerow(("id", "text", "label", "hard"))

    def __enter__(self) -> HardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._hard.close()
        self._file.close()

    def add(self, line: int, example: Example, judged: Sequence[JudgedAnswer]) -> None:
        """Add a text, which begins on `line` of its split's file, with its answers in their order."""
        hard = is_hard(judged)
        self._counts[example.label, hard] += 1
        self._tagged.writerow([example.id, example.text, example.label, "" if hard is None else int(hard)])
        if not hard:
            return
        answers = []
        for a in judged:
            reasons = [{"rule": v.rule, "detail": v.detail} for v in a.verdicts if v.rejected]
            answers.append({"k_index": a.answer.sample, "pred_label": a.answer.label, "reasons": reasons})
        place = f"data_splits/{self._split}.csv:{line}"
        row = {"example_id": example.id, "place": place, "text": example.text, "gold_label": example.label}
        self._hard.write({**row, "answers": answers})

    def hardness(self) -> Hardness:
        """Return the counts so far."""
        n, labels = self._counts, self._labels
        shares = [share(n[label, True], n[label, True] + n[label, False]) for label in labels]
        return Hardness(
            texts=sum(s.count for s in shares),
            unanswered=sum(n[label, None] for label in labels),
            by_label=dict(zip(labels.codes, shares, strict=True)),
            difference=difference(shares[labels.positive or 0], shares[labels.negative]),
        )


def read_tags(path: Path) -> Iterator[tuple[str, bool | None]]:
    """Yield the ids of a marked split with their marks; None for a text without an answer."""
    with path.open(encoding="utf-8", newline="") as f:
        for row in csv.DictReader(f):
            yield row["id"], {"1": True, "0": False}.get(row["hard"])


class TeacherSummary(Stored):
    """teacher_summary.json: the result of the reject stage, with the facts of the sample stage."""

    teacher_model: str
    teacher_kind: str
    requested_samples: int
    """Answers that were judged."""
    accepted_samples: int
    rejected_samples: int
    acceptance_rate: float | None
    """Accepted answers of all answers; None without answers."""
    examples: int
    """Texts of train."""
    accepted_examples: int
    """Texts with an accepted answer."""
    example_acceptance_rate: float | None
    """Accepted texts of all answered texts; None without answers."""
    missing: int
    """Texts without an answer."""
    unknown_ids: int
    """Texts of a recorded file that are not in train."""
    models: Mapping[str, int]
    parse_sources: Mapping[str, int]
    parse_errors: Mapping[str, int]
    finish_reasons: Mapping[str, int]
    first_answers: FirstAnswers
    agreement: AnswerAgreement
    recorded_labels: RecordedLabels | None = None
    output_format: str | None = None
    ledger: TeacherLedger | None = None
    funnel: Funnel
    hard: Hardness
    skew: Skew | None
    """The gold label of which rejection takes a larger share, where that is beyond chance."""
    unusable: str | None
    """Why nothing can be learned from the accepted answers; None if it can."""
    notices: Sequence[str]

    @property
    def is_gold(self) -> bool:
        """Whether no teacher was asked, and the student learns the gold labels."""
        return self.teacher_kind == "gold"
