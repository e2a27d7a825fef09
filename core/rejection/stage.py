"""The reject stage: the teacher's answers in, those worth learning out, and what became of the rest."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from core import jsonio
from core.config.base import Section
from core.config.rejection import RejectionConfig, Repeats
from core.config.teacher import RulesConfig
from core.data.writing import iter_examples
from core.errors import ConfigError, StageError
from core.records import Example, TeacherAnswer, Verdict
from core.rejection.funnel import SURPLUS, Funnel, FunnelCounter
from core.rejection.remembered import Remembered
from core.rejection.rules import ABOUT_RULEBOOK, Context, judge
from core.rejection.samples import accepted_row, rejected_row
from core.rejection.skew import REJECTED_FILE, notices, skew
from core.rulebook import load_rulebook
from core.stageio import StageIO
from core.teacher.base import Answered
from core.teacher.rows import read_samples

log = logging.getLogger(__name__)

NAME = "reject"
VERSION = 3
ACCEPTED_FILE = "accepted_samples.jsonl"
SUMMARY_FILE = "teacher_summary.json"
_OF_THE_TEACHER = (
    "finish_reasons",
    "first_answers",
    "agreement",
    "recorded_labels",
    "output_format",
    "ledger",
)
"""What the sample stage's summary says of the teacher, as it stands there."""
_BOTH = "a student needs both labels"
_REMEDIES = {
    "unparsed": "set teacher.parse to how the teacher writes its answers",
    "truncated": "raise teacher.max_tokens or record whole answers",
    "label_mismatch": "mend the rules, or teacher.parse.labels where the labels are named otherwise",
    "no_rule_cited": "ask for citations in teacher_user, or take no_rule_cited out of rejection.rules",
}


class RejectSlice(Section):
    """What rejection depends on."""

    rejection: RejectionConfig
    """The config's `rejection:`."""
    rules: RulesConfig
    """The config's `rules:`: which ids a rationale may cite."""
    keep: int = 1
    """The config's `teacher.keep`: accepted answers for each text, at most."""
    positive: tuple[str, ...] = ()
    """The data's names of the positive class."""
    negative: tuple[str, ...] = ()
    """The data's names of the negative class."""


def content(slice: RejectSlice) -> dict[str, str]:
    """The digest of the rulebook. Raises PromptError where it cannot be read, and ConfigError where
    a rejection rule needs ids that it does not have: before any answer is paid for."""
    rulebook = load_rulebook(slice.rules)
    _refuse_without_ids(slice.rejection, rulebook.ids)
    return {"rules.dir": rulebook.digest}


def run(slice: RejectSlice, io: StageIO) -> dict[str, Any]:
    """Write accepted_samples.jsonl, rejected_samples.jsonl and teacher_summary.json.

    Whether there is anything to learn from is for `ensure_usable` to say, once these files are
    kept. Raises ConfigError for rules that need ids the rulebook does not have, and StageError
    where the answers were made from other texts.
    """
    rule_ids = load_rulebook(slice.rules).ids
    _refuse_without_ids(slice.rejection, rule_ids)
    names = {1: ("1", *slice.positive), 0: ("0", *slice.negative)}
    counter = FunnelCounter()
    sample = io.inputs["sample"]
    sampled = jsonio.read_json(sample / "sample_summary.json")
    with (
        closing(Remembered()) as remembered,
        _Lines(io.out / ACCEPTED_FILE) as accepted,
        _Lines(io.out / REJECTED_FILE) as rejected,
    ):
        sorter = _Sorter(slice, Context(rule_ids, names, remembered), accepted, rejected)
        examples = iter_examples(io.inputs["split"] / "train.csv")
        for done, answered in enumerate(_matched(examples, sample / "teacher_samples.jsonl"), start=1):
            counter.text(answered.example.label, *sorter.sort(answered))
            io.progress.update(done, sampled["examples"])
    summary = _summary(counter.funnel(), sorter.learnt, sampled)
    jsonio.write_json(io.out / SUMMARY_FILE, summary)
    return summary


def ensure_usable(summary: dict[str, Any]) -> None:
    """Raise StageError where the summary of a reject stage says that nothing can be learnt from it; else
    say in the log what it has to notice, whether the stage was made now or is reused."""
    if summary["unusable"] is not None:
        raise StageError(summary["unusable"])
    for notice in summary["notices"]:
        log.warning("%s", notice)


class _Lines:
    """A JSON-lines file that is written a row at a time."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", newline="\n")
        self._encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, row: dict[str, Any]) -> None:
        self._file.write(self._encode(row) + "\n")


class _Sorter:
    """Judges answers in row and sample order and writes each to the file it belongs into."""

    def __init__(self, slice: RejectSlice, context: Context, accepted: _Lines, rejected: _Lines) -> None:
        self.rules, self.keep, self.context = slice.rejection.rules, slice.keep, context
        self.accepted, self.rejected = accepted, rejected
        self.remembers = any(isinstance(rule, Repeats) for rule in self.rules)
        self.learnt: Counter[int] = Counter()

    def sort(self, answered: Answered) -> tuple[list[int | None], list[str | None]]:
        """The labels that the answers to one text gave, and the reasons they were rejected for."""
        reasons: list[str | None] = []
        for answer in answered.answers:
            kept = reasons.count(None)
            reasons.append(self._one(answered.example, answer, full=kept >= self.keep))
        return [answer.label for answer in answered.answers], reasons

    def _one(self, example: Example, answer: TeacherAnswer, *, full: bool) -> str | None:
        verdicts = judge(self.rules, answer, example, self.context)
        reason = _first(verdicts) or (SURPLUS if full else None)
        if reason is not None:
            self.rejected.write(rejected_row(example, answer, verdicts, reason))
            return reason
        self.accepted.write(accepted_row(example, answer))
        self.learnt[answer.label or 0] += 1
        if self.remembers:
            self.context.accepted.add(answer.reasoning or "")
        return None


def _first(verdicts: tuple[Verdict, ...]) -> str | None:
    return next((v.rule for v in verdicts if v.rejected), None)


def _matched(examples: Iterable[Example], samples: Path) -> Iterator[Answered]:
    """Every text of train with its answers, both files being in row order."""
    answers = read_samples(samples)
    waiting = next(answers, None)
    for example in examples:
        if waiting is None or waiting.example.id != example.id:
            yield Answered(example, ())
            continue
        yield Answered(example, waiting.answers)
        waiting = next(answers, None)
    if waiting is not None:
        raise StageError(
            f"{samples} answers id {waiting.example.id!r}, which train does not hold in this place; "
            "make the answers again with --refresh sample"
        )


def _refuse_without_ids(config: RejectionConfig, rule_ids: tuple[str, ...]) -> None:
    needing = [r.rule for r in config.rules if r.rule in ABOUT_RULEBOOK]
    if needing and not rule_ids:
        raise ConfigError(
            f"rejection.rules has {needing[0]}, but no rule of the rulebook has an id; begin rules "
            "with ids such as R1, in the file's name or at the start of a line, or leave it out"
        )


def _summary(funnel: Funnel, learnt: Counter[int], sampled: dict[str, Any]) -> dict[str, Any]:
    answers, texts = funnel.answers, funnel.texts
    live = sampled["teacher_kind"] == "openai"
    skewed = skew(texts, live=live)
    return {
        "teacher_model": sampled["teacher_model"],
        "teacher_kind": sampled["teacher_kind"],
        "requested_samples": answers.total,
        "accepted_samples": answers.accepted,
        "rejected_samples": answers.total - answers.accepted,
        "acceptance_rate": answers.accepted / answers.total if answers.total else None,
        "examples": sampled["examples"],
        "accepted_examples": texts.accepted,
        "example_acceptance_rate": texts.accepted / texts.total if texts.total else None,
        "missing": sampled["missing"],
        "unknown_ids": sampled.get("unknown_ids", 0),
        "models": sampled["models"],
        "parse_sources": sampled["parse_sources"],
        "parse_errors": sampled["parse_errors"],
        **{name: sampled[name] for name in _OF_THE_TEACHER if name in sampled},
        "funnel": dataclasses.asdict(funnel),
        "skew": None if skewed is None else dataclasses.asdict(skewed),
        "unusable": _unusable(funnel, learnt),
        "notices": [*sampled["notices"], *notices(funnel, live=live)],
    }


def _unusable(funnel: Funnel, learnt: Counter[int]) -> str | None:
    """Why nothing can be learnt from what was accepted, in one sentence; None where it can."""
    accepted = {label: s.count for label, s in funnel.texts.by_label.items()}
    empty = [label for label, n in accepted.items() if n == 0]
    if not empty:
        same = f"all accepted answers say {next(iter(learnt))}, whatever the gold label; {_BOTH}"
        return same if len(learnt) < 2 else None
    what = f"no answer to the {funnel.texts.total} answered texts was accepted"
    if len(empty) == 1:
        total = funnel.texts.by_label[empty[0]].total
        what = f"of the {total} answered texts with gold label {empty[0]} none was accepted"
    counts = {r: sum(by[label] for label in empty) for r, by in funnel.texts.by_reason.items()}
    reason = max(counts, key=lambda r: counts[r], default=None)
    if reason is None or counts[reason] == 0:
        return f"{what}, since the teacher answered none; {_BOTH}"
    return (
        f"{what}, most often because of {reason} ({counts[reason]} texts); {_BOTH}: read "
        f"{REJECTED_FILE}, then {_REMEDIES.get(reason, 'loosen rejection.rules')}"
    )
