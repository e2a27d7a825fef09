"""The analyse stage and `analysis.json`: scorers on the same rows of a split, with all decisions frozen."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import model_validator

from core.config import ConfigSection, MeasuringSettings
from core.errors import Part, StageError, separable
from core.evaluation.bootstrap import RESAMPLES, Judged, bootstrap, intervals_of
from core.evaluation.comparison import Comparison, compare
from core.evaluation.curves import Curves, Reliability, draw_curves, reliability
from core.evaluation.decision import DECISION, Decision
from core.evaluation.metrics import Confusion, Metrics, compute
from core.evaluation.predictions import SCORES, Predictions
from core.evaluation.slices import (
    Faithfulness,
    Labeling,
    Slice,
    by_agreement,
    by_cited_rule,
    by_group,
    by_length,
    faithfulness,
    slices,
)
from core.evaluation.threshold import DEFAULT
from core.intervals import Interval
from core.jsonio import Record
from core.records import BINARY, Example, SplitName, read_examples
from core.stage import StageIO, stage
from core.teacher.samples import read_samples

FILE = "analysis.json"
VERSION: Literal[2] = 2
"""Of the file that is written. Files of understudy 0.1 have no version and the same fields otherwise."""

_GROUP = "group"
Kind = Literal["student", "label_only", "untrained", "baseline", "teacher"]
"""What a scorer is to the reader; label_only is the student, asked with the label-only prompt."""


class ScorerAnalysis(Record):
    """One scorer on the rows. `counts` is None if it has no threshold, and so no decisions."""

    title: str
    kind: Kind
    threshold: float | None
    counts: Confusion | None
    intervals: dict[str, Interval]
    """Every metric by name, at the scorer's own threshold."""


class ProbabilityAnalysis(ScorerAnalysis):
    """A scorer that gives probabilities."""

    threshold_reason: str | None
    calibration: str
    metrics: Metrics
    """Of calibrated probabilities at the threshold."""
    at_default: Metrics
    """Of probabilities before calibration, at 0.5."""
    reliability: Reliability
    curves: Curves


class LabelAnalysis(ScorerAnalysis):
    """A scorer that gives labels alone: a teacher."""

    unlabelled: int
    """Rows without a label, which count as negative."""


class Analysis(Record):
    """The content of analysis.json. All scorers are measured on the same `rows`."""

    version: Literal[2] = VERSION
    """Other versions are refused when a file is read."""
    split: SplitName
    rows: int
    left_out: int
    """Rows that are left out for all scorers, because a server failed on them for one."""
    positive: int
    groups: int
    clustered: bool
    """Whether resamples draw whole groups."""
    resamples: int
    seed: int
    scorers: dict[str, ProbabilityAnalysis | LabelAnalysis]
    """By name. The first is compared with each other one, and its rows are sliced."""
    comparisons: tuple[Comparison, ...]
    """Of the first scorer with each other one, in their order."""
    slices: tuple[Slice, ...]
    faithfulness: Faithfulness | None
    """None if no reasoning was generated."""

    @property
    def first(self) -> ProbabilityAnalysis | LabelAnalysis:
        """The scorer that the others are compared with: the student, in a run's analysis."""
        return next(iter(self.scorers.values()))

    @property
    def with_probabilities(self) -> dict[str, ProbabilityAnalysis]:
        """The scorers that give probabilities, by name."""
        return {name: s for name, s in self.scorers.items() if isinstance(s, ProbabilityAnalysis)}

    def compared(self) -> Iterator[tuple[ProbabilityAnalysis | LabelAnalysis, Comparison]]:
        """Yield each other scorer with the first one's comparison with it."""
        _, *others = self.scorers.values()
        return zip(others, self.comparisons, strict=True)


@dataclass(frozen=True, slots=True)
class Scored:
    """A scorer's predictions of the split and its frozen decision; or, of a teacher, labels by example id."""

    name: str
    title: str
    predictions: Predictions | None
    decision: Decision | None
    labels: Mapping[str, int | None] | None = None
    kind: Kind = "baseline"

    def on(self, examples: Sequence[Example]) -> tuple[Predictions, Predictions, Judged]:
        """Return its predictions of the examples, in their order, before and after calibration.

        Raises StageError if a row is missing.
        """
        ids, gold = [e.id for e in examples], [e.label for e in examples]
        if (labels := self.labels) is not None:
            rows = Predictions.of(ids, np.full(len(ids), np.nan), gold=gold)
            # A text without a label is predicted negative, as a row without a probability is.
            predicted = np.array([labels.get(name) == BINARY.positive for name in ids], dtype=np.bool_)
            return rows, rows, Judged(None, predicted, f"{self.title} gives labels and no probabilities")
        if self.predictions is None or self.decision is None:
            raise ValueError(f"{self.title} has neither labels nor predictions with a decision")
        at = self.predictions.indices()
        missing = [name for name in ids if name not in at]
        if missing:
            raise StageError(
                f"{self.title} has no score of {len(missing)} of {len(examples)} rows, {missing[0]} for one: "
                "scorers are compared on the same rows only"
            )
        raw = self.predictions.take([at[name] for name in ids]).with_gold(gold)
        calibrated, frozen = self.decision.calibrated(raw), self.decision
        return raw, calibrated, Judged.of(calibrated, frozen.threshold, f"{self.title}: {frozen.reason}")


def measure_scorers(
    split: SplitName,
    examples: Sequence[Example],
    scorers: Sequence[Scored],
    rule_ids: tuple[str, ...] = (),
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    without: Collection[Part] = (),
) -> Analysis:
    """Measure all scorers on the rows of a split, and compare the first with each other one.

    Rows that a server failed on for any scorer are left out for all, and counted. `without` leaves out the
    slices or the faithfulness. Raises StageError if a scorer lacks a row, and PartFailed if the slices or
    the faithfulness fail.
    """
    failed = {name for s in scorers if (p := s.predictions) is not None for name in p.take(p.failed).ids}
    kept = [e for e in examples if e.id not in failed]
    aligned = [s.on(kept) for s in scorers]
    judged, first = [each for _, _, each in aligned], aligned[0][0]
    positive, groups = first.positive, [e.group for e in kept]
    found = bootstrap(positive, judged, groups, resamples=resamples, seed=seed)

    parts: list[Slice] = []
    if Part.SLICES not in without:
        with separable(Part.SLICES):
            for by, labeling in _labelings(kept, first, scorers, rule_ids).items():
                clusters = None if by == _GROUP else groups
                parts += slices(by, labeling, positive, judged[0], clusters, seed=seed)
    faithful = None
    if Part.FAITHFULNESS not in without and any(g.text is not None for g in first.generated):
        with separable(Part.FAITHFULNESS):
            predicted = judged[0].predicted
            decided = [None] * len(kept) if predicted is None else predicted.astype(int).tolist()
            faithful = faithfulness(first, [e.text for e in kept], decided, rule_ids)
    return Analysis(
        split=split,
        rows=len(kept),
        left_out=len(examples) - len(kept),
        positive=int(positive.sum()),
        groups=len({g for g in groups if g is not None}),
        clustered=found.clustered,
        resamples=resamples,
        seed=seed,
        scorers={
            s.name: _measure(s, *rows, intervals_of(positive, rows[2], found, i))
            for i, (s, rows) in enumerate(zip(scorers, aligned, strict=True))
        },
        comparisons=tuple(compare(positive, [s.title for s in scorers], judged, found)),
        slices=tuple(parts),
        faithfulness=faithful,
    )


def _measure(
    of: Scored, raw: Predictions, calibrated: Predictions, judged: Judged, intervals: dict[str, Interval]
) -> ProbabilityAnalysis | LabelAnalysis:
    positive, p = calibrated.positive, calibrated.probability
    threshold = None if of.decision is None else of.decision.threshold
    common: dict[str, Any] = {
        "title": of.title,
        "kind": of.kind,
        "threshold": threshold,
        "counts": None if judged.predicted is None else Confusion.of(positive, judged.predicted),
        "intervals": intervals,
    }
    if of.decision is None:
        unlabelled = sum((of.labels or {}).get(name) is None for name in raw.ids)
        return LabelAnalysis(**common, unlabelled=unlabelled)
    return ProbabilityAnalysis(
        **common,
        threshold_reason=of.decision.reason,
        calibration=of.decision.calibrator.kind,
        metrics=compute(calibrated, threshold, judged.lacks),
        at_default=compute(raw, DEFAULT),
        reliability=reliability(positive, p),
        curves=draw_curves(positive, p, threshold),
    )


def _labelings(
    examples: Sequence[Example], first: Predictions, scorers: Sequence[Scored], rule_ids: tuple[str, ...]
) -> dict[str, Labeling]:
    """Return the labelings by which the first scorer's rows are sliced."""
    labelings = {
        "cited rule": by_cited_rule([g.reasoning for g in first.generated], rule_ids) if rule_ids else {},
        "length": by_length([e.text for e in examples]),
        _GROUP: by_group([e.group for e in examples]),
    }
    for s in scorers:
        if s.labels is not None:
            labels = [s.labels.get(e.id) for e in examples]
            labelings[f"agreement with {s.title}"] = by_agreement(first.positive, labels)
    return labelings


class ScorerSettings(ConfigSection):
    """One scorer: where its rows are among the stage's inputs, and what was frozen for it."""

    name: str
    title: str
    kind: Kind
    scored: str
    """The input with its rows of the split, in `file`."""
    file: str = SCORES
    decision: str | None = None
    """The input that the decide stage built for it."""
    threshold: float | None = None
    """A threshold by definition instead, on probabilities as they are (that of the majority class)."""
    labels_only: bool = False
    """Whether the file has a teacher's answers: labels without probabilities."""

    @model_validator(mode="after")
    def _one_decision(self) -> ScorerSettings:
        given = sum([self.decision is not None, self.threshold is not None, self.labels_only])
        if given != 1:
            raise ValueError(f"{self.name} needs one of decision, threshold and labels_only, and has {given}")
        return self

    def read(self, io: StageIO) -> Scored:
        """Return its rows and its decision. Raises StageError if two rows have the same id."""
        path = io.input(self.scored) / self.file
        if self.labels_only:
            # The first answer without a hint: what asking once gives.
            labels = {
                a.example.id: next((s.label for s in a.answers if not s.hinted), None)
                for a in read_samples(path)
            }
            return Scored(self.name, self.title, None, None, labels, self.kind)
        predictions = Predictions.read(path)
        if twice := len(predictions) - len(predictions.indices()):
            raise StageError(f"{self.title}: {twice} rows of {self.file} have an id that another one has")
        if self.threshold is not None:
            frozen = Decision.by_definition(self.threshold)
        else:
            frozen = Decision.read(io.input(self.decision or "") / DECISION)
        return Scored(self.name, self.title, predictions, frozen, kind=self.kind)


class AnalyseSettings(MeasuringSettings):
    """Settings of the analyse stage; see measure_scorers."""

    split: SplitName
    scorers: tuple[ScorerSettings, ...]
    rule_ids: tuple[str, ...] = ()
    resamples: int = RESAMPLES
    """Of every interval except those of slices."""
    seed: int
    without: tuple[Part, ...] = ()
    """Parts that failed and are left out: slices, faithfulness."""


@stage(
    "analyse",
    version=6,
    inputs=("split", "*"),
    switch="export",
    shows="student_phase/analysis.json",
    slot="analyse/{who}",
    label="analyse {who} on {settings.split}",
)
def analyse(settings: AnalyseSettings, io: StageIO) -> dict[str, Any]:
    """Write analysis.json. Inputs: `split`, and those that the scorers name.

    Raises StageError if a scorer lacks rows of the split, and PartFailed for a part that can be left out.
    """
    found = measure_scorers(
        settings.split,
        read_examples(io.input("split") / f"{settings.split}.csv"),
        [scorer.read(io) for scorer in settings.scorers],
        settings.rule_ids,
        resamples=settings.resamples,
        seed=settings.seed,
        without=settings.without,
    )
    found.write(io.out / FILE)
    verdicts = {
        c.b: {name: c.differences[name].verdict for name in ("macro_f1", "auroc")} for c in found.comparisons
    }
    return {"rows": found.rows, "left_out": found.left_out, "verdicts": verdicts}
