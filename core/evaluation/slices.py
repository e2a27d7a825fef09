"""Parts of the rows: slices, the texts that were hard for the teacher, and the faithfulness of the reasoning.

Slices are by cited rule, length, group, and agreement with the teacher. With many slices one of them is low
by chance, so none is tested against the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import field_validator

from core.config import Config, MeasuringSettings, RejectionConfig, RuleContext
from core.evaluation.bootstrap import Judged, intervals
from core.evaluation.decision import DECISION, Decision
from core.evaluation.predictions import SCORES, Bools, Predictions, at_or_above
from core.intervals import Difference, Interval, Share, proportion
from core.jsonio import Record, as_row
from core.records import SplitName, iter_placed, read_examples
from core.rejection.funnel import SUMMARY_FILE, Hardness
from core.rejection.rules import judge
from core.rejection.stage import (
    HARD_FILE,
    HardWriter,
    JudgedAnswer,
    JudgingSettings,
    matched,
    read_tags,
    tagged_file,
)
from core.rulebook import MIN_QUOTE, cited, load_rulebook, missing_quotes, quotes
from core.stage import StageIO, stage

if TYPE_CHECKING:
    from core.pipeline.run_context import RunContext

RESAMPLES = 2_000
LEAST_ROWS = 10
MOST_GROUPS = 20
LENGTH_BUCKETS = 4
HARDNESS = "hardness.json"
_NO_REASONING = "no reasoning can be read"
_NO_LABEL = "no answer states a label that can be compared"


@dataclass(frozen=True, slots=True)
class Slice:
    """The rows of one name under one labeling ("length", "241 to 520 characters")."""

    by: str
    name: str
    rows: int
    positive: int
    metrics: Mapping[str, Interval]


Labeling = Mapping[str, Bools]
"""Masks of rows by name; a row may be in several or in none."""


def slices(
    by: str,
    labeling: Labeling,
    positive: Bools,
    judged: Judged,
    groups: Sequence[str | None] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Slice]:
    """Return every metric of each slice with at least LEAST_ROWS rows, in the order of the labeling.

    For slices by group leave `groups` out: one group alone cannot be resampled.
    """
    found = []
    for name, rows in labeling.items():
        n = int(rows.sum())
        if n < LEAST_ROWS:
            continue
        kept = None if groups is None else [g for g, r in zip(groups, rows, strict=True) if r]
        part = [judged.take(rows)]
        metrics = intervals(positive[rows], part, kept, resamples=resamples, seed=seed)[0]
        found.append(Slice(by, name, n, int(positive[rows].sum()), metrics))
    return found


def by_length(texts: Sequence[str]) -> Labeling:
    """Return buckets of lengths in characters, of as equal sizes as ties allow."""
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    if len(lengths) == 0:
        return {}
    ends = np.unique(np.quantile(lengths, np.arange(1, LENGTH_BUCKETS + 1) / LENGTH_BUCKETS, method="higher"))
    bucket = np.searchsorted(ends, lengths, side="left")
    starts = [int(lengths.min()), *(int(e) + 1 for e in ends[:-1])]
    return {
        f"{low} to {int(high)} characters": bucket == k
        for k, (low, high) in enumerate(zip(starts, ends, strict=True))
    }


def by_group(groups: Sequence[str | None]) -> Labeling:
    """Return the largest groups, at most MOST_GROUPS, the largest first; ties by name."""
    counted = Counter(g for g in groups if g is not None)
    largest = sorted(counted, key=lambda g: (-counted[g], g))[:MOST_GROUPS]
    return {name: np.array([g == name for g in groups], dtype=np.bool_) for name in largest}


def by_cited_rule(reasonings: Sequence[str | None], known: tuple[str, ...]) -> Labeling:
    """Return the rows whose reasoning cites each rule of the rulebook, in its order, and those with none.

    Rows without a reasoning are in no slice.
    """
    cites = [None if r is None else frozenset(cited(r, known)) & set(known) for r in reasonings]
    rules = {rule: np.array([c is not None and rule in c for c in cites], dtype=np.bool_) for rule in known}
    return {**rules, "no rule": np.array([c is not None and not c for c in cites], dtype=np.bool_)}


def by_agreement(positive: Bools, teacher: Sequence[int | None]) -> Labeling:
    """Return the rows on which the teacher agrees with gold, and disagrees; None: no label."""
    labels = np.array([-1 if t is None else t for t in teacher], dtype=np.int64)
    right = labels == positive.astype(np.int64)
    return {"teacher agrees with gold": right, "teacher disagrees with gold": ~right & (labels >= 0)}


@dataclass(frozen=True, slots=True)
class CountedShare:
    """`count` of `total`, with Wilson's interval; rows of one reasoning are taken as independent."""

    count: int
    total: int
    share: Interval

    @staticmethod
    def of(hits: Sequence[bool], why: str) -> CountedShare:
        """Count the hits; `why` is the reason if there is nothing to count."""
        return CountedShare(sum(hits), len(hits), proportion(sum(hits), len(hits), why))


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """How many of the generated answers are faithful.

    `with_reasoning` have a reasoning that can be read; `cites_a_rule` cite one that exists, and
    `without_invented_rule` none that does not; `without_invented_quote` quote only words of the text.
    `rules_that_exist` and `quotes_that_occur` count the citations and quotations themselves.
    `label_is_more_probable`: the stated label is the one to which the model gave more probability, before
    calibration; `label_is_decision`: it is the label at the threshold; `label_is_gold`: it is right.
    """

    with_reasoning: CountedShare
    cites_a_rule: CountedShare
    without_invented_rule: CountedShare
    without_invented_quote: CountedShare
    rules_that_exist: CountedShare
    quotes_that_occur: CountedShare
    label_is_more_probable: CountedShare
    label_is_decision: CountedShare
    label_is_gold: CountedShare


def faithfulness(
    p: Predictions, texts: Sequence[str], decided: Sequence[int | None], known: tuple[str, ...]
) -> Faithfulness:
    """Return how faithful the generated answers are; rows without one are left out.

    `decided` is each row's label at its threshold, None where there is none; `known` the rulebook's ids.
    """
    asked = [i for i, generated in enumerate(p.generated) if generated.text is not None]
    reasonings = [(p.generated[i].reasoning, texts[i]) for i in asked]
    reasoned = [(reasoning, text) for reasoning, text in reasonings if reasoning is not None]
    exist = [[rule in known for rule in cited(reasoning, known)] for reasoning, _ in reasoned]
    occur = []
    for reasoning, text in reasoned:
        missing = missing_quotes(reasoning, text, MIN_QUOTE)
        occur.append([quote not in missing for quote in quotes(reasoning)])
    stated = [(i, label) for i in asked if (label := p.generated[i].label) is not None]
    probable = at_or_above(p.probability, 0.5).tolist()
    gold = p.positive.tolist()
    known_probability = [(i, label) for i, label in stated if not np.isnan(p.probability[i])]
    comparable = [(i, label) for i, label in stated if decided[i] is not None]
    return Faithfulness(
        with_reasoning=CountedShare.of([r is not None for r, _ in reasonings], "no reasoning was asked for"),
        cites_a_rule=CountedShare.of([any(e) for e in exist], _NO_REASONING),
        without_invented_rule=CountedShare.of([all(e) for e in exist], _NO_REASONING),
        without_invented_quote=CountedShare.of([all(o) for o in occur], _NO_REASONING),
        rules_that_exist=CountedShare.of([e for found in exist for e in found], "no rule is cited"),
        quotes_that_occur=CountedShare.of([o for found in occur for o in found], "nothing is quoted"),
        label_is_more_probable=CountedShare.of([y == probable[i] for i, y in known_probability], _NO_LABEL),
        label_is_decision=CountedShare.of([y == decided[i] for i, y in comparable], _NO_LABEL),
        label_is_gold=CountedShare.of([y == gold[i] for i, y in stated], _NO_LABEL),
    )


class HardTexts(Record):
    """The content of hardness.json: the split's hard texts by gold label, and the student on them."""

    split: SplitName
    texts: int
    """Hard texts: every answer of the teacher to them was rejected."""
    unanswered: int
    by_label: dict[str, Share]
    """The share of hard texts among the answered texts of each gold label."""
    difference: Difference
    """The positive class's share minus the negative class's."""
    least_rows: int
    """Slices of fewer rows are not measured."""
    slices: tuple[Slice, ...]
    """The student on hard texts and on the others; empty if the split was not scored."""


class _Counted(Record):
    """What is read of teacher_summary.json."""

    hard: Hardness


class IndependentJudgingSettings(JudgingSettings):
    """Settings for judging the answers to val or test: by the rules that do not count what was accepted."""

    @field_validator("rejection")
    @classmethod
    def _each_answer_by_itself(cls, rejection: RejectionConfig) -> RejectionConfig:
        kept = tuple(rule for rule in rejection.rules if not rule.counts_accepted)
        return rejection.model_copy(update={"rules": kept})


class HardnessSettings(MeasuringSettings):
    """Settings of the hardness stage; `judging` is None if the reject stage judged the answers."""

    split: SplitName
    judging: IndependentJudgingSettings | None = None
    resamples: int = RESAMPLES
    seed: int

    @classmethod
    def of(cls, config: Config, split: SplitName) -> HardnessSettings:
        judging = None if split == "train" else IndependentJudgingSettings.of(config)
        return cls(split=split, judging=judging, seed=config.seed)


def _content(settings: HardnessSettings, context: RunContext | None = None) -> dict[str, str]:
    return {} if settings.judging is None else {"rules.dir": load_rulebook(settings.judging.rules).digest}


def _published(settings: HardnessSettings) -> dict[str, str]:
    if settings.split == "train":  # the reject stage publishes those
        return {}
    marked, listed = tagged_file(settings.split), HARD_FILE.replace(".", f"_{settings.split}.")
    return {HARD_FILE: f"teacher_phase/{listed}", marked: f"data_splits/{marked}"}


@stage(
    "hardness",
    version=2,
    inputs=("split", "answers", "scored?", "decision?"),
    content=_content,
    publishes=_published,
    shows="data_splits/{settings.split}_with_hard_tag.csv",
    switch="export",
    slot="hardness/{who}/{settings.split}",
    label="hard texts of {settings.split}",
)
def hardness(settings: HardnessSettings, io: StageIO) -> dict[str, Any]:
    """Write hardness.json and, if answers are judged here, hard_examples.jsonl and the marked split.

    Inputs: `split`; `answers`, the reject stage's object for train and the sample stage's otherwise; and, if
    the split was scored, `scored` and `decision`.
    """
    path, tagged = io.input("split") / f"{settings.split}.csv", io.out
    if settings.judging is None:
        tagged = io.input("answers")
        counted = _Counted.read(tagged / SUMMARY_FILE).hard
    else:
        by, samples = settings.judging, io.input("answers") / "teacher_samples.jsonl"
        context = RuleContext(load_rulebook(by.rules).ids, by.labels)
        with HardWriter(io.out, settings.split, by.labels) as hard:
            for line, answered in matched(iter_placed(path), samples, settings.split):
                e = answered.example
                judged = [JudgedAnswer(a, judge(by.rejection, a, e, context)) for a in answered.answers]
                hard.add(line, e, judged)
        counted = hard.hardness()
    found: list[Slice] = []
    if (folder := io.optional("scored")) is not None:
        frozen = Decision.read(io.input("decision") / DECISION)
        scored = Predictions.read(folder / SCORES).without_failed()
        at, tags = scored.indices(), dict(read_tags(tagged / tagged_file(settings.split)))
        kept = [e for e in read_examples(path) if e.id in at]
        rows = frozen.calibrated(scored.take([at[e.id] for e in kept]))
        is_hard, is_not = (np.array([tags[e.id] is tag for e in kept], np.bool_) for tag in (True, False))
        found = slices(
            "hard",
            {"hard": is_hard, "not hard": is_not},
            rows.positive,
            Judged.of(rows, frozen.threshold, frozen.reason),
            [e.group for e in kept],
            resamples=settings.resamples,
            seed=settings.seed,
        )
    summary = HardTexts(split=settings.split, **as_row(counted), least_rows=LEAST_ROWS, slices=tuple(found))
    summary.write(io.out / HARDNESS)
    return {"hard": counted.texts, "unanswered": counted.unanswered}
