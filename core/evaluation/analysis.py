"""All that is said of scorers on the rows of one split: each by itself, and the first against the rest."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from core.errors import StageError
from core.evaluation import curves
from core.evaluation.bootstrap import RESAMPLES, Judged, Replicates, bootstrap
from core.evaluation.columns import Bools, Columns, columns, predict
from core.evaluation.comparison import compare
from core.evaluation.decision import Decision
from core.evaluation.faithfulness import faithfulness
from core.evaluation.intervals import of_replicates
from core.evaluation.metrics import compute
from core.evaluation.objectives import DEFAULT
from core.evaluation.reliability import reliability
from core.evaluation.slices import Slice, by_agreement, by_cited_rule, by_group, by_length, slices
from core.optional import Part, unless_left_out
from core.records import Example, ScoredExample

NO_PROBABILITY = "{} gives labels and no probabilities"

Kind = Literal["student", "label_only", "untrained", "baseline", "teacher"]
"""What a scorer is to the reader; label_only is the student, asked with the label-only prompt."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A scorer's rows of the split and its frozen decision; or, of a teacher, labels by example id."""

    name: str
    title: str
    rows: Mapping[str, ScoredExample]
    decision: Decision | None
    labels: Mapping[str, int | None] | None = None
    kind: Kind = "baseline"


@dataclass(frozen=True, slots=True)
class _Aligned:
    """A scorer's rows in the order of the examples, as they came and calibrated."""

    of: Scored
    raw: Sequence[ScoredExample]
    calibrated: Sequence[ScoredExample]
    columns: Columns
    judged: Judged

    @property
    def threshold(self) -> float | None:
        return None if self.of.decision is None else self.of.decision.threshold


def analyse(
    examples: Sequence[Example],
    scorers: Sequence[Scored],
    rule_ids: tuple[str, ...] = (),
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    without: Collection[Part] = (),
) -> dict[str, Any]:
    """The mapping that is written to analysis.json. The first scorer is compared with each other one.

    All are measured on the rows that all of them have; rows that a server failed on for any of them are
    left out for all, and counted. Raises StageError where a scorer lacks a row, and PartFailed where the
    slices or the faithfulness fail; `without` leaves these out.
    """
    kept = [e for e in examples if not any(_failed(e, s) for s in scorers)]
    aligned = [_aligned(kept, s) for s in scorers]
    positive = np.array([e.label == 1 for e in kept], dtype=np.bool_)
    groups = [e.group for e in kept]
    judged = [a.judged for a in aligned]
    found = bootstrap(positive, judged, groups, resamples=resamples, seed=seed)
    names = [s.title for s in scorers]
    return {
        "rows": len(kept),
        "left_out": len(examples) - len(kept),
        "positive": int(positive.sum()),
        "groups": len({g for g in groups if g is not None}),
        "clustered": found.clustered,
        "resamples": resamples,
        "seed": seed,
        "scorers": {a.of.name: _scorer(a, positive, found, i) for i, a in enumerate(aligned)},
        "comparisons": [c.to_json() for c in compare(positive, names, judged, found)],
        "slices": unless_left_out(
            Part.SLICES,
            without,
            lambda: [s.to_json() for s in _slices(kept, positive, aligned, rule_ids, seed)],
            list,
        ),
        "faithfulness": unless_left_out(
            Part.FAITHFULNESS, without, lambda: _faithfulness(kept, aligned[0], rule_ids), lambda: None
        ),
    }


def _failed(example: Example, scorer: Scored) -> bool:
    row = scorer.rows.get(example.id)
    return row is not None and row.error is not None


def _aligned(examples: Sequence[Example], scorer: Scored) -> _Aligned:
    if scorer.labels is not None:
        return _labelled(examples, scorer, scorer.labels)
    missing = [e.id for e in examples if e.id not in scorer.rows]
    if missing:
        raise StageError(
            f"{scorer.title} has no score of {len(missing)} of {len(examples)} rows, {missing[0]} for one: "
            "scorers are compared on the same rows only"
        )
    raw = [scorer.rows[e.id] for e in examples]
    calibrated = raw if scorer.decision is None else scorer.decision.calibrator.apply_to(raw)
    c = columns(calibrated)
    at = None if scorer.decision is None else scorer.decision.threshold
    lacks = "no threshold was chosen" if scorer.decision is None else scorer.decision.reason
    return _Aligned(scorer, raw, calibrated, c, Judged.of(c, at, f"{scorer.title}: {lacks}"))


def _labelled(examples: Sequence[Example], scorer: Scored, labels: Mapping[str, int | None]) -> _Aligned:
    """Labels alone; a text without one is predicted 0, as a row without a probability is."""
    rows = [ScoredExample(e.id, e.label, None, outside=0.0, valid=False) for e in examples]
    said = np.array([labels.get(e.id) == 1 for e in examples], dtype=np.bool_)
    judged = Judged(None, said, NO_PROBABILITY.format(scorer.title))
    return _Aligned(scorer, rows, rows, columns(rows), judged)


def _scorer(a: _Aligned, positive: Bools, found: Replicates, i: int) -> dict[str, Any]:
    """One scorer by itself: metrics with intervals, reliability and curves."""
    of = a.of
    measured = {name: v.to_json() for name, v in of_replicates(positive, a.judged, found, i).items()}
    counts = None if a.judged.predicted is None else _counts(positive, a.judged.predicted)
    head: dict[str, Any] = {"title": of.title, "kind": of.kind, "threshold": a.threshold}
    head |= {"counts": counts, "intervals": measured}
    if of.labels is not None:
        return {**head, "unlabelled": sum(of.labels.get(row.example_id) is None for row in a.raw)}
    p = a.columns.probability
    return {
        **head,
        "threshold_reason": None if of.decision is None else of.decision.reason,
        "calibration": "none" if of.decision is None else of.decision.calibrator.kind,
        "metrics": compute(a.calibrated, a.threshold, a.judged.lacks).to_json(),
        "at_default": compute(a.raw, DEFAULT).to_json(),
        "reliability": reliability(positive, p).to_json(),
        "curves": {
            "precision_recall": curves.precision_recall(positive, p),
            "by_threshold": curves.by_threshold(positive, p),
            "by_coverage": None if a.threshold is None else curves.by_coverage(positive, p, a.threshold),
        },
    }


def _counts(positive: Bools, said: Bools) -> dict[str, int]:
    tp, predicted, all_positive = int((said & positive).sum()), int(said.sum()), int(positive.sum())
    fp, fn = predicted - tp, all_positive - tp
    return {"tp": tp, "fp": fp, "fn": fn, "tn": len(positive) - tp - fp - fn}


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
        "cited rule": by_cited_rule([row.reasoning for row in first.raw], rule_ids) if rule_ids else {},
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
) -> dict[str, Any] | None:
    if all(row.raw_output is None for row in first.raw):
        return None
    at = first.threshold
    decided = [None if at is None else predict(row.probability, at) for row in first.calibrated]
    return faithfulness(first.raw, [e.text for e in examples], decided, rule_ids).to_json()
