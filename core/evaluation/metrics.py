"""All metrics of one set of scored rows, from the same rows and the same predictions.

A prediction is 1 iff the probability is at or above the threshold. A row without a probability
is invalid: it is predicted 0, and counts as 0.5 in ranking, log loss and Brier score, so that
saying nothing is neither rewarded nor left out. A row that the model would rather not label but
that has a probability keeps it, and is counted in `invalid_label_rate`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from core.evaluation.columns import Columns, columns
from core.evaluation.counted import OF_COUNTS, Counts, why_undefined
from core.records import ScoredExample

CLIP = 1e-12
"""Smallest P(gold) whose logarithm is taken, so that one certain error costs 27.6 nats, not infinity."""

SMALLER_IS_BETTER = frozenset({"loss", "cls_loss", "log_loss", "brier", "invalid_label_rate", "outside_mass"})

NAMES: Mapping[str, str] = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
    "f1": "F1",
    "mcc": "MCC",
    "precision": "precision",
    "recall": "recall",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "log_loss": "log loss",
    "brier": "Brier score",
}
"""As sentences call them."""

NO_THRESHOLD = "no threshold was chosen"

_JSON_NAMES = {"f1": "F1"}
"""Attributes whose name in files is another: that of the files that users already read."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts of rows by prediction and gold label."""

    tp: int
    fp: int
    fn: int
    tn: int


@dataclass(frozen=True, slots=True)
class Metrics:
    """What the rows say at one threshold. None is undefined, with its reason in `undefined`.

    Without a threshold nothing is predicted: all that is counted of predictions is undefined.

    `loss`, `cls_loss` and `log_loss` are one number: the mean of -ln P(gold) in nats.
    """

    loss: float | None
    cls_loss: float | None
    accuracy: float | None
    macro_f1: float | None
    auroc: float | None
    auprc: float | None
    invalid_label_rate: float | None
    decision_threshold: float | None
    balanced_accuracy: float | None
    f1: float | None
    mcc: float | None
    precision: float | None
    recall: float | None
    tp: int | None
    fp: int | None
    fn: int | None
    tn: int | None
    log_loss: float | None
    brier: float | None
    n: int
    n_positive: int
    outside_mass: float | None
    undefined: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The mapping that is written; `f1` is called `F1` there."""
        out = {_JSON_NAMES.get(f.name, f.name): getattr(self, f.name) for f in fields(self)}
        return {**out, "undefined": dict(self.undefined)}


def from_json(value: Mapping[str, Any]) -> Metrics:
    """The metrics in a file that this project wrote."""
    return Metrics(**{f.name: value[_JSON_NAMES.get(f.name, f.name)] for f in fields(Metrics)})


def compute(rows: Sequence[ScoredExample], threshold: float | None, lacks: str = NO_THRESHOLD) -> Metrics:
    """All metrics of `rows` at `threshold`; where that is None, `lacks` says why nothing is predicted.

    Raises StageError on rows that hold impossible numbers.
    """
    return from_columns(columns(rows), threshold, lacks)


def from_columns(c: Columns, threshold: float | None, lacks: str = NO_THRESHOLD) -> Metrics:
    """As `compute`, for rows that are columns already."""
    if threshold is not None and not math.isfinite(threshold):
        raise ValueError(f"a threshold is a finite number, not {threshold}")
    undefined: dict[str, str] = {}
    counts = None if threshold is None else _confusion(c, threshold)
    values = {**_of_counts(counts, undefined, lacks), **_of_probabilities(c, undefined)}
    return Metrics(
        **values,
        decision_threshold=threshold if threshold is None else float(threshold),
        tp=None if counts is None else counts.tp,
        fp=None if counts is None else counts.fp,
        fn=None if counts is None else counts.fn,
        tn=None if counts is None else counts.tn,
        n=len(c),
        n_positive=int(c.positive.sum()),
        undefined=undefined,
    )


def value(metrics: Metrics, name: str) -> float | None:
    """A metric by its name, `F1` and `f1` alike. Raises KeyError for a name that is none."""
    attribute = "f1" if name == "F1" else name
    if attribute == "undefined" or attribute not in {f.name for f in fields(Metrics)}:
        raise KeyError(f"there is no metric {name!r}")
    found: float | None = getattr(metrics, attribute)
    return found


def better(metric: str, a: float | None, b: float | None, *, by: float = 0.0) -> bool:
    """Whether `a` is strictly better than `b`, by more than `by`; None is worse than any number."""
    if a is None:
        return False
    if b is None:
        return True
    return b - a > by if metric in SMALLER_IS_BETTER else a - b > by


def _confusion(c: Columns, threshold: float) -> Confusion:
    said = c.predicted(threshold)
    tp = int((said & c.positive).sum())
    fp = int(said.sum()) - tp
    fn = int(c.positive.sum()) - tp
    return Confusion(tp=tp, fp=fp, fn=fn, tn=len(c) - tp - fp - fn)


def _of_counts(k: Confusion | None, undefined: dict[str, str], lacks: str) -> dict[str, float | None]:
    """Metrics of the predictions, where there are any."""
    if k is None:
        undefined.update({_JSON_NAMES.get(name, name): lacks for name in OF_COUNTS})
        return dict.fromkeys(OF_COUNTS)
    table = Counts.of(k.tp, k.fp, k.tp + k.fn, k.fp + k.tn)
    out: dict[str, float | None] = {}
    for name, of in OF_COUNTS.items():
        found = float(of(table))
        out[name] = None if math.isnan(found) else found
        if math.isnan(found):
            undefined[_JSON_NAMES.get(name, name)] = _absent(k) if name == "macro_f1" else why_undefined(name)
    return out


def _absent(k: Confusion) -> str:
    """Why macro-F1 is undefined."""
    there = {"0": k.tn + k.fp + k.fn, "1": k.tp + k.fp + k.fn}
    return f"no row is, or was predicted, {' or '.join(label for label, n in there.items() if n == 0)}"


def _of_probabilities(c: Columns, undefined: dict[str, str]) -> dict[str, float | None]:
    """Metrics of the probabilities.

    AUROC with ties counted half (Hanley & McNeil 1982); AUPRC is average precision, the step-wise
    sum without interpolation (Davis & Goadrich 2006); log loss is clipped at 1e-12; Brier 1950 in
    its one-class form, the mean squared error of P(positive).
    """
    names = ("loss", "cls_loss", "log_loss", "brier", "auroc", "auprc", "invalid_label_rate", "outside_mass")
    if len(c) == 0:
        undefined.update(dict.fromkeys(names, "no rows"))
        return dict.fromkeys(names)
    p = c.ranking
    log_loss = float(-np.log(np.clip(np.where(c.positive, p, 1 - p), CLIP, None)).mean())
    return {
        "loss": log_loss,
        "cls_loss": log_loss,
        "log_loss": log_loss,
        "brier": float(np.square(p - c.positive).mean()),
        "auroc": _ranked("auroc", "roc_auc_score", c, undefined),
        "auprc": _ranked("auprc", "average_precision_score", c, undefined),
        "invalid_label_rate": float(c.invalid.mean()),
        "outside_mass": float(c.outside.mean()),
    }


def _ranked(name: str, of: str, c: Columns, undefined: dict[str, str]) -> float | None:
    if c.positive.all() or not c.positive.any():
        undefined[name] = why_undefined(name)
        return None
    from sklearn import metrics  # two seconds that a run which measures nothing need not wait

    return float(getattr(metrics, of)(c.positive, c.ranking))
