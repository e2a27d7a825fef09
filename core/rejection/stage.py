"""The reject stage: judges the teacher's answers, and writes those worth learning and all others apart."""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from core import jsonio
from core.config import Config
from core.config.base import ConfigSection
from core.config.rejection import RejectionConfig, RuleContext
from core.config.teacher import RulesConfig
from core.data.writing import iter_placed
from core.errors import ConfigError, StageError
from core.jsonio import LinesWriter
from core.labels import LabelSet
from core.records import Example, SplitName, TeacherAnswer
from core.rejection.cited import plain
from core.rejection.files import (
    ACCEPTED_FILE,
    HARD_FILE,
    SUMMARY_FILE,
    Hardness,
    HardWriter,
    JudgedAnswer,
    TeacherSummary,
    accepted_row,
    rejected_row,
    tagged_file,
)
from core.rejection.funnel import REJECTED_FILE, Funnel, FunnelCounter, notices, remedy, skew
from core.rejection.rules import judge
from core.rulebook import Rulebook, load_rulebook
from core.stage import StageIO, stage
from core.teacher.base import Answered, SampleSummary
from core.teacher.samples import read_samples

if TYPE_CHECKING:
    from core.pipeline.context import RunContext

log = logging.getLogger(__name__)

_OF_THE_TEACHER = frozenset(SampleSummary.model_fields) & frozenset(TeacherSummary.model_fields) - {"notices"}
"""Fields that are copied from the sample stage's summary."""
_BOTH = "a student needs both labels"


class JudgingSettings(ConfigSection):
    """Settings for judging answers."""

    rejection: RejectionConfig
    """The config's `rejection:`."""
    rules: RulesConfig
    """The config's `rules:`: which ids a rationale may cite."""
    positive: tuple[str, ...] = ()
    """The data's names of the positive class."""
    negative: tuple[str, ...] = ()
    """The data's names of the negative class."""

    @property
    def labels(self) -> LabelSet:
        """The labels with their names in the data."""
        return LabelSet.binary(self.positive, self.negative)

    @classmethod
    def of(cls, config: Config, **more: Any) -> Self:
        """Return the part of the config that decides the verdicts; `more` are fields of subclasses."""
        names = {"positive": config.data.positive, "negative": config.data.negative}
        return cls(rejection=config.rejection, rules=config.rules, **names, **more)


class RejectSettings(JudgingSettings):
    """Settings of the reject stage."""

    keep: int = 1
    """The config's `teacher.keep`: accepted answers for each text, at most."""

    @classmethod
    def of(cls, config: Config, **more: Any) -> Self:
        return super().of(config, keep=config.teacher.keep, **more)


def content(settings: RejectSettings, context: RunContext | None = None) -> dict[str, str]:
    """Return the digest of the rulebook, checked before any answer is paid for.

    Raises PromptError if it cannot be read, and ConfigError if a rule needs ids that it does not have.
    """
    return {"rules.dir": _rulebook(settings).digest}


def _rulebook(settings: RejectSettings) -> Rulebook:
    rulebook = load_rulebook(settings.rules)
    needing = [r.rule for r in (*settings.rejection.rules, *settings.rejection.hinted) if r.needs_rule_ids]
    if needing and not rulebook.ids:
        raise ConfigError(
            f"rejection.rules has {needing[0]}, but no rule of the rulebook has an id; begin rules "
            "with ids such as R1, in the file's name or at the start of a line, or leave it out"
        )
    return rulebook


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
    """Write accepted and rejected answers, hard texts, the marked split and teacher_summary.json.

    `ensure_usable` checks afterwards, when these files are kept, whether there is anything to learn from.
    Raises ConfigError as `content`, and StageError if the answers were given to other texts.
    """
    labels, rule_ids = settings.labels, _rulebook(settings).ids
    counter, learned = FunnelCounter(labels), Counter[int]()
    sample = io.inputs["sample"]
    sampled = SampleSummary.model_validate(jsonio.read_json(sample / "sample_summary.json"))
    with (
        closing(AcceptedReasonings()) as reasonings,
        LinesWriter(io.out / ACCEPTED_FILE) as accepted,
        LinesWriter(io.out / REJECTED_FILE) as rejected,
        HardWriter(io.out, "train", labels) as hard,
    ):
        context = RuleContext(rule_ids, labels, reasonings.times)
        examples = iter_placed(io.inputs["split"] / "train.csv")
        for line, answered in matched(examples, sample / "teacher_samples.jsonl"):
            judged = _judged(settings, answered, context, reasonings)
            for each in judged:
                if each.reason is None:
                    accepted.write(accepted_row(answered.example, each.answer))
                    learned[each.answer.label or 0] += 1
                else:
                    rejected.write(rejected_row(answered.example, each))
            counter.text(answered.example.label, [a.answer.label for a in judged], [a.reason for a in judged])
            hard.add(line, answered.example, judged)
            io.progress.update(counter.texts, sampled.examples)
    summary = _summary(counter.funnel(), hard.hardness(), learned, sampled)
    jsonio.write_json(io.out / SUMMARY_FILE, summary.to_json())
    return summary.to_json()


def ensure_usable(summary: dict[str, Any]) -> None:
    """Raise StageError if the summary of a reject stage states that nothing can be learned from it.

    Otherwise log its notices, whether the stage was executed or reused.
    """
    if summary["unusable"] is not None:
        raise StageError(summary["unusable"])
    for notice in summary["notices"]:
        log.warning("%s", notice)


def _judged(
    settings: RejectSettings, answered: Answered, context: RuleContext, reasonings: AcceptedReasonings
) -> list[JudgedAnswer]:
    """Judge the answers to one text in their order; accepted reasonings count for the next answers."""
    rules = (*settings.rejection.rules, *settings.rejection.hinted)
    counts_accepted, judged = any(rule.counts_accepted for rule in rules), list[JudgedAnswer]()
    kept = 0
    for answer in answered.answers:
        verdicts = judge(settings.rejection, answer, answered.example, context)
        found = JudgedAnswer(answer, verdicts, surplus=kept >= settings.keep)
        if found.reason is None:
            kept += 1
            if counts_accepted:
                reasonings.add(answer.reasoning or "")
        judged.append(found)
    return judged


def matched(
    examples: Iterable[tuple[int, Example]], samples: Path, split: SplitName = "train"
) -> Iterator[tuple[int, Answered]]:
    """Yield every text of a split, and its line, with its answers; both files are in row order.

    Raises StageError if the answers were given to other texts.
    """
    answers = read_samples(samples)
    waiting = next(answers, None)
    for line, example in examples:
        given: tuple[TeacherAnswer, ...] = ()
        if waiting is not None and waiting.example.id == example.id:
            given, waiting = waiting.answers, next(answers, None)
        yield line, Answered(example, given)
    if waiting is not None:
        raise StageError(
            f"{samples} answers id {waiting.example.id!r}, which {split} does not hold in this place; "
            "make the answers again with --refresh sample"
        )


def _summary(
    funnel: Funnel, hardness: Hardness, learned: Counter[int], sampled: SampleSummary
) -> TeacherSummary:
    answers, texts = funnel.answers, funnel.texts
    live = sampled.teacher_kind == "openai"
    copied = sampled.model_fields_set & _OF_THE_TEACHER
    return TeacherSummary(
        **{"unknown_ids": 0, **{name: getattr(sampled, name) for name in copied}},
        requested_samples=answers.total,
        accepted_samples=answers.accepted,
        rejected_samples=answers.total - answers.accepted,
        acceptance_rate=answers.accepted / answers.total if answers.total else None,
        accepted_examples=texts.accepted,
        example_acceptance_rate=texts.accepted / texts.total if texts.total else None,
        funnel=funnel,
        hard=hardness,
        skew=skew(texts, live=live),
        unusable=_unusable(funnel, learned, live=live),
        notices=[*sampled.notices, *notices(funnel, live=live)],
    )


def _unusable(funnel: Funnel, learned: Counter[int], *, live: bool) -> str | None:
    """Return in one sentence why nothing can be learned from the accepted answers; None if it can."""
    texts = funnel.texts
    empty = [label for label, accepted in texts.by_label.items() if accepted.count == 0]
    if not empty:
        same = f"all accepted answers say {next(iter(learned))}, whatever the gold label; {_BOTH}"
        return same if len(learned) < 2 else None
    what = f"no answer to the {texts.total} answered texts was accepted"
    if len(empty) == 1:
        total = texts.by_label[empty[0]].total
        what = f"of the {total} answered texts with gold label {empty[0]} none was accepted"
    counts = {r: sum(by[label] for label in empty) for r, by in texts.by_reason.items()}
    reason = max(counts, key=lambda r: counts[r], default=None)
    if reason is None or counts[reason] == 0:
        return f"{what}, since the teacher answered none; {_BOTH}"
    return (
        f"{what}, most often because of {reason} ({counts[reason]} texts); {_BOTH}: read "
        f"{REJECTED_FILE}, then {remedy(reason, live=live)}"
    )


class AcceptedReasonings:
    """Counts of accepted reasonings by a 64-bit digest, ignoring case and space. Close it.

    They are in a database that SQLite keeps in a temporary file, since they grow with the accepted answers.
    Raises OSError if that file cannot be written.
    """

    def __init__(self, cache_kb: int = 16_000) -> None:
        """`cache_kb` is held in memory; with SQLite's own 2 MB a million reasonings take 50 % longer."""
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute(f"PRAGMA cache_size = -{cache_kb}")
        self._db.execute("CREATE TABLE accepted (digest INTEGER PRIMARY KEY, times INTEGER NOT NULL)")
        self._db.execute("BEGIN")

    def times(self, reasoning: str) -> int:
        """Return how often this reasoning was added."""
        found = self._execute("SELECT times FROM accepted WHERE digest = ?", reasoning).fetchone()
        return int(found[0]) if found else 0

    def add(self, reasoning: str) -> None:
        """Count a reasoning once more."""
        self._execute(
            "INSERT INTO accepted VALUES (?, 1) ON CONFLICT DO UPDATE SET times = times + 1", reasoning
        )

    def close(self) -> None:
        self._db.close()

    def _execute(self, statement: str, reasoning: str) -> sqlite3.Cursor:
        digest = hashlib.blake2b(plain(reasoning).encode(), digest_size=8).digest()
        try:
            return self._db.execute(statement, (int.from_bytes(digest, signed=True),))  # as SQLite's integers
        except sqlite3.DatabaseError as e:
            raise OSError(f"the temporary database of accepted reasonings failed: {e}") from e
