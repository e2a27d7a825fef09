"""`analysis.json`: scorers measured on the same rows of one split, and the first compared with the others."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from core.errors import StageError
from core.evaluation import curves
from core.evaluation.bootstrap import RESAMPLES, Judged, Replicates, bootstrap
from core.evaluation.comparison import Comparison, compare
from core.evaluation.decision import Decision
from core.evaluation.faithfulness import Faithfulness, faithfulness
from core.evaluation.intervals import Interval, of_replicates
from core.evaluation.metrics import Confusion, Metrics, compute
from core.evaluation.objectives import DEFAULT
from core.evaluation.predictions import Bools, Predictions
from core.evaluation.reliability import Reliability, reliability
from core.evaluation.slices import Slice, by_agreement, by_cited_rule, by_group, by_length, slices
from core.jsonio import Record
from core.optional import Part, unless_left_out
from core.records import Example, SplitName

FILE = "analysis.json"
VERSION: Literal[2] = 2
"""Of the file that is written. Files of understudy 0.1 have no version and the same fields otherwise."""
NO_PROBABILITY = "{} gives labels and no probabilities"

Kind = Literal["student", "label_only", "untrained", "baseline", "teacher"]
"""What a scorer is to the reader; label_only is the student, asked with the label-only prompt."""


@dataclass(frozen=True, slots=True)
class Curves:
    """Curves of one scorer; `by_coverage` is None without a threshold."""

    precision_recall: curves.PrecisionRecall
    by_threshold: curves.ByThreshold
    by_coverage: curves.ByCoverage | None


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


@dataclass(frozen=True, slots=True)
class _Aligned:
    """A scorer's predictions in the order of the examples, before and after calibration."""

    of: Scored
    raw: Predictions
    calibrated: Predictions
    judged: Judged

    @property
    def threshold(self) -> float | None:
        return None if self.of.decision is None else self.of.decision.threshold


def analyse(
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
    measured = [s.predictions for s in scorers if s.predictions is not None]
    failed = {name for p in measured for name in p.take(p.failed).ids}
    kept = [e for e in examples if e.id not in failed]
    aligned = [_aligned(kept, s) for s in scorers]
    positive = np.array([e.label == 1 for e in kept], dtype=np.bool_)
    groups = [e.group for e in kept]
    judged = [a.judged for a in aligned]
    found = bootstrap(positive, judged, groups, resamples=resamples, seed=seed)
    return Analysis(
        split=split,
        rows=len(kept),
        left_out=len(examples) - len(kept),
        positive=int(positive.sum()),
        groups=len({g for g in groups if g is not None}),
        clustered=found.clustered,
        resamples=resamples,
        seed=seed,
        scorers={a.of.name: _scorer(a, positive, found, i) for i, a in enumerate(aligned)},
        comparisons=tuple(compare(positive, [s.title for s in scorers], judged, found)),
        slices=unless_left_out(
            Part.SLICES, without, lambda: tuple(_slices(kept, positive, aligned, rule_ids, seed)), tuple
        ),
        faithfulness=unless_left_out(
            Part.FAITHFULNESS, without, lambda: _faithfulness(kept, aligned[0], rule_ids), lambda: None
        ),
    )


def _aligned(examples: Sequence[Example], scorer: Scored) -> _Aligned:
    if scorer.predictions is None:
        return _labeled(examples, scorer, scorer.labels or {})
    at = scorer.predictions.indices()
    missing = [e.id for e in examples if e.id not in at]
    if missing:
        raise StageError(
            f"{scorer.title} has no score of {len(missing)} of {len(examples)} rows, {missing[0]} for one: "
            "scorers are compared on the same rows only"
        )
    raw = scorer.predictions.take([at[e.id] for e in examples]).with_gold([e.label for e in examples])
    calibrated = raw if scorer.decision is None else scorer.decision.calibrated(raw)
    threshold = None if scorer.decision is None else scorer.decision.threshold
    lacks = "no threshold was chosen" if scorer.decision is None else scorer.decision.reason
    judged = Judged.of(calibrated, threshold, f"{scorer.title}: {lacks}")
    return _Aligned(scorer, raw, calibrated, judged)


def _labeled(examples: Sequence[Example], scorer: Scored, labels: Mapping[str, int | None]) -> _Aligned:
    """Labels alone; a text without one is predicted 0, as a row without a probability is."""
    none = np.full(len(examples), np.nan)
    rows = Predictions.of([e.id for e in examples], none, gold=[e.label for e in examples])
    predicted = np.array([labels.get(e.id) == 1 for e in examples], dtype=np.bool_)
    return _Aligned(scorer, rows, rows, Judged(None, predicted, NO_PROBABILITY.format(scorer.title)))


def _scorer(a: _Aligned, positive: Bools, found: Replicates, i: int) -> ProbabilityAnalysis | LabelAnalysis:
    of, p = a.of, a.calibrated.probability
    intervals = of_replicates(positive, a.judged, found, i)
    counts = None if a.judged.predicted is None else Confusion.of(positive, a.judged.predicted)
    if of.labels is not None:
        return LabelAnalysis(
            title=of.title,
            kind=of.kind,
            threshold=a.threshold,
            counts=counts,
            intervals=intervals,
            unlabelled=sum(of.labels.get(name) is None for name in a.raw.ids),
        )
    return ProbabilityAnalysis(
        title=of.title,
        kind=of.kind,
        threshold=a.threshold,
        counts=counts,
        intervals=intervals,
        threshold_reason=None if of.decision is None else of.decision.reason,
        calibration="none" if of.decision is None else of.decision.calibrator.kind,
        metrics=compute(a.calibrated, a.threshold, a.judged.lacks),
        at_default=compute(a.raw, DEFAULT),
        reliability=reliability(positive, p),
        curves=Curves(
            precision_recall=curves.precision_recall(positive, p),
            by_threshold=curves.by_threshold(positive, p),
            by_coverage=None if a.threshold is None else curves.by_coverage(positive, p, a.threshold),
        ),
    )


def _slices(
    examples: Sequence[Example],
    positive: Bools,
    aligned: Sequence[_Aligned],
    rule_ids: tuple[str, ...],
    seed: int,
) -> list[Slice]:
    """Of the first scorer."""
    first, groups = aligned[0], [e.group for e in examples]
    labellings = {
        "cited rule": by_cited_rule([g.reasoning for g in first.raw.generated], rule_ids) if rule_ids else {},
        "length": by_length([e.text for e in examples]),
        "group": by_group(groups),
        **{
            f"agreement with {a.of.title}": by_agreement(positive, [a.of.labels.get(e.id) for e in examples])
            for a in aligned
            if a.of.labels is not None
        },
    }
    return [
        found
        for by, labelling in labellings.items()
        for found in slices(
            by, labelling, positive, first.judged, None if by == "group" else groups, seed=seed
        )
    ]


def _faithfulness(
    examples: Sequence[Example], first: _Aligned, rule_ids: tuple[str, ...]
) -> Faithfulness | None:
    if all(generated.text is None for generated in first.raw.generated):
        return None
    predicted = first.judged.predicted
    decided = [None] * len(examples) if predicted is None else predicted.astype(int).tolist()
    return faithfulness(first.raw, [e.text for e in examples], decided, rule_ids)
