"""The reject stage: the teacher's answers in, those worth learning out, and what became of the rest."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import jsonio
from core.config import Config
from core.config.base import Section
from core.config.rejection import RejectionConfig, RuleContext
from core.config.teacher import RulesConfig
from core.data.writing import iter_placed
from core.errors import ConfigError, StageError
from core.jsonio import LinesWriter
from core.labels import LabelSet
from core.records import Example, SplitName, TeacherAnswer, Verdict
from core.rejection.funnel import SURPLUS, Funnel, FunnelCounter
from core.rejection.hard import HARD_FILE, Hardness, HardWriter, Judged, tagged_file
from core.rejection.remembered import Remembered
from core.rejection.rules import judge
from core.rejection.samples import accepted_row, rejected_row
from core.rejection.skew import REJECTED_FILE, notices, remedy, skew
from core.rejection.summary import TeacherSummary
from core.rulebook import load_rulebook
from core.stage import StageIO, stage
from core.teacher.base import Answered
from core.teacher.samples import read_samples
from core.teacher.summary import SampleSummary

if TYPE_CHECKING:
    from core.pipeline.context import RunContext

log = logging.getLogger(__name__)

ACCEPTED_FILE = "accepted_samples.jsonl"
SUMMARY_FILE = "teacher_summary.json"
_OF_THE_TEACHER = frozenset(SampleSummary.model_fields) & frozenset(TeacherSummary.model_fields) - {"notices"}
"""Fields that are passed on from the sample stage's summary."""
_BOTH = "a student needs both labels"


class RejectSettings(Section):
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

    @classmethod
    def of(cls, config: Config) -> RejectSettings:
        """The part of the config that decides what is accepted."""
        return cls(
            rejection=config.rejection,
            rules=config.rules,
            keep=config.teacher.keep,
            positive=config.data.positive,
            negative=config.data.negative,
        )


def content(settings: RejectSettings, context: RunContext | None = None) -> dict[str, str]:
    """The digest of the rulebook. Raises PromptError where it cannot be read, and ConfigError where
    a rejection rule needs ids that it does not have: before any answer is paid for."""
    rulebook = load_rulebook(settings.rules)
    _refuse_without_ids(settings.rejection, rulebook.ids)
    return {"rules.dir": rulebook.digest}


@stage(
    "reject",
    version=5,
    inputs=("split", "sample"),
    content=content,
    publishes={
        **{name: f"teacher_phase/{name}" for name in (ACCEPTED_FILE, REJECTED_FILE, HARD_FILE, SUMMARY_FILE)},
        tagged_file("train"): f"data_splits/{tagged_file('train')}",
    },
)
def reject(settings: RejectSettings, io: StageIO) -> dict[str, Any]:
    """Write accepted_samples.jsonl, rejected_samples.jsonl, hard_examples.jsonl, train_with_hard_tag.csv
    and teacher_summary.json.

    Whether there is anything to learn from is for `ensure_usable` to say, once these files are
    kept. Raises ConfigError for rules that need ids the rulebook does not have, and StageError
    where the answers were made from other texts.
    """
    rule_ids = load_rulebook(settings.rules).ids
    _refuse_without_ids(settings.rejection, rule_ids)
    labels = LabelSet.binary(settings.positive, settings.negative)
    counter = FunnelCounter(labels)
    sample = io.inputs["sample"]
    sampled = SampleSummary.model_validate(jsonio.read_json(sample / "sample_summary.json"))
    with (
        closing(Remembered()) as remembered,
        LinesWriter(io.out / ACCEPTED_FILE) as accepted,
        LinesWriter(io.out / REJECTED_FILE) as rejected,
        HardWriter(io.out, "train", labels) as hard,
    ):
        context = RuleContext(rule_ids, labels, remembered.times)
        sorter = _Sorter(settings, context, remembered, accepted, rejected)
        examples = iter_placed(io.inputs["split"] / "train.csv")
        for line, answered in matched(examples, sample / "teacher_samples.jsonl"):
            judged = sorter.sort(answered)
            counter.text(answered.example.label, [a.answer.label for a in judged], [a.reason for a in judged])
            hard.add(line, answered.example, judged)
            io.progress.update(counter.texts, sampled.examples)
    summary = _summary(counter.funnel(), hard.hardness(), sorter.learnt, sampled)
    jsonio.write_json(io.out / SUMMARY_FILE, summary.to_json())
    return summary.to_json()


def ensure_usable(summary: dict[str, Any]) -> None:
    """Raise StageError where the summary of a reject stage says that nothing can be learnt from it; else
    say in the log what it has to notice, whether the stage was made now or is reused."""
    if summary["unusable"] is not None:
        raise StageError(summary["unusable"])
    for notice in summary["notices"]:
        log.warning("%s", notice)


class _Sorter:
    """Judges answers in row and sample order and writes each to the file it belongs into."""

    def __init__(
        self,
        settings: RejectSettings,
        context: RuleContext,
        remembered: Remembered,
        accepted: LinesWriter,
        rejected: LinesWriter,
    ) -> None:
        self.rejection, self.keep, self.context = settings.rejection, settings.keep, context
        self.accepted, self.rejected, self.remembered = accepted, rejected, remembered
        rules = (*self.rejection.rules, *self.rejection.hinted)
        self.counts_accepted = any(rule.counts_accepted for rule in rules)
        self.learnt: Counter[int] = Counter()

    def sort(self, answered: Answered) -> list[Judged]:
        """The answers to one text, judged in their order."""
        judged: list[Judged] = []
        for answer in answered.answers:
            full = sum(before.reason is None for before in judged) >= self.keep
            judged.append(self._one(answered.example, answer, full=full))
        return judged

    def _one(self, example: Example, answer: TeacherAnswer, *, full: bool) -> Judged:
        verdicts = judge(self.rejection, answer, example, self.context)
        reason = first_reason(verdicts) or (SURPLUS if full else None)
        if reason is not None:
            self.rejected.write(rejected_row(example, answer, verdicts, reason))
            return Judged(answer, verdicts, reason)
        self.accepted.write(accepted_row(example, answer))
        self.learnt[answer.label or 0] += 1
        if self.counts_accepted:
            self.remembered.add(answer.reasoning or "")
        return Judged(answer, verdicts, None)


def first_reason(verdicts: tuple[Verdict, ...]) -> str | None:
    """The rule that rejects an answer; None where none does."""
    return next((v.rule for v in verdicts if v.rejected), None)


def matched(
    examples: Iterable[tuple[int, Example]], samples: Path, split: SplitName = "train"
) -> Iterator[tuple[int, Answered]]:
    """Every text of a split, and its line, with its answers, both files being in row order.

    Raises StageError where the answers were made from other texts.
    """
    answers = read_samples(samples)
    waiting = next(answers, None)
    for line, example in examples:
        if waiting is None or waiting.example.id != example.id:
            yield line, Answered(example, ())
            continue
        yield line, Answered(example, waiting.answers)
        waiting = next(answers, None)
    if waiting is not None:
        raise StageError(
            f"{samples} answers id {waiting.example.id!r}, which {split} does not hold in this place; "
            "make the answers again with --refresh sample"
        )


def _refuse_without_ids(config: RejectionConfig, rule_ids: tuple[str, ...]) -> None:
    needing = [r.rule for r in (*config.rules, *config.hinted) if r.needs_rule_ids]
    if needing and not rule_ids:
        raise ConfigError(
            f"rejection.rules has {needing[0]}, but no rule of the rulebook has an id; begin rules "
            "with ids such as R1, in the file's name or at the start of a line, or leave it out"
        )


def _summary(
    funnel: Funnel, hardness: Hardness, learnt: Counter[int], sampled: SampleSummary
) -> TeacherSummary:
    answers, texts = funnel.answers, funnel.texts
    live = sampled.teacher_kind == "openai"
    passed_on = sampled.model_fields_set & _OF_THE_TEACHER
    return TeacherSummary(
        **{"unknown_ids": 0, **{name: getattr(sampled, name) for name in passed_on}},
        requested_samples=answers.total,
        accepted_samples=answers.accepted,
        rejected_samples=answers.total - answers.accepted,
        acceptance_rate=answers.accepted / answers.total if answers.total else None,
        accepted_examples=texts.accepted,
        example_acceptance_rate=texts.accepted / texts.total if texts.total else None,
        funnel=funnel,
        hard=hardness,
        skew=skew(texts, live=live),
        unusable=_unusable(funnel, learnt, live=live),
        notices=[*sampled.notices, *notices(funnel, live=live)],
    )


def _unusable(funnel: Funnel, learnt: Counter[int], *, live: bool) -> str | None:
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
        f"{REJECTED_FILE}, then {remedy(reason, live=live)}"
    )
