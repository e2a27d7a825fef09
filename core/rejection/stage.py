"""The reject stage: judges the teacher's answers, and writes those worth learning and all others apart."""

from __future__ import annotations

import csv
import hashlib
import logging
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from core import jsonio
from core.config import Config, ConfigSection, RejectionConfig, RuleContext, RulesConfig
from core.errors import ConfigError, StageError
from core.intervals import difference, share
from core.jsonio import LinesWriter, as_row, read_jsonl
from core.records import (
    BINARY,
    AcceptedSample,
    Example,
    LabelSet,
    SplitName,
    TeacherAnswer,
    Verdict,
    iter_placed,
)
from core.rejection.funnel import (
    REJECTED_FILE,
    SUMMARY_FILE,
    SURPLUS,
    Funnel,
    FunnelCounter,
    Hardness,
    TeacherSummary,
    notices,
    skew,
    unusable,
)
from core.rejection.rules import judge
from core.rulebook import Rulebook, load_rulebook, plain
from core.stage import StageIO, stage
from core.teacher.samples import Answered, SampleSummary, read_samples, sample_id, sample_row

if TYPE_CHECKING:
    from core.pipeline.run_context import RunContext

log = logging.getLogger(__name__)

ACCEPTED_FILE = "accepted_samples.jsonl"
HARD_FILE = "hard_examples.jsonl"
_OF_THE_TEACHER = frozenset(SampleSummary.model_fields) & frozenset(TeacherSummary.model_fields) - {"notices"}
"""Fields that are copied from the sample stage's summary."""


def tagged_file(split: SplitName) -> str:
    """Return the file name of a split with its marks."""
    return f"{split}_with_hard_tag.csv"


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
    sample = io.input("sample")
    sampled = SampleSummary.model_validate(jsonio.read_json(sample / "sample_summary.json"))
    with (
        closing(AcceptedReasonings()) as reasonings,
        LinesWriter(io.out / ACCEPTED_FILE) as accepted,
        LinesWriter(io.out / REJECTED_FILE) as rejected,
        HardWriter(io.out, "train", labels) as hard,
    ):
        context = RuleContext(rule_ids, labels, reasonings.times)
        examples = iter_placed(io.input("split") / "train.csv")
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
        unusable=unusable(funnel, learned, live=live),
        notices=[*sampled.notices, *notices(funnel, live=live)],
    )


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
