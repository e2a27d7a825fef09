"""The built-in metrics, and all metrics of one set of scored rows.

A row without a probability is predicted 0, and counts as 0.5 in ranking, log loss and Brier score. A row with
more mass off the labels than on them keeps its probability, and is counted in `invalid_label_rate`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from core.config import METRICS, Metric, metric
from core.evaluation.predictions import Bools, Floats, Predictions, at_or_above, optional

CLIP = 1e-12
"""Smallest P(gold) whose logarithm is taken, so that one certain error costs 27.6 nats, not infinity."""
_ONE_CLASS = "the rows are of one class"
_NO_ROWS = "no rows"
_UNSEEN_LABEL = "a label that no row has and none was predicted"

Weights = NDArray[np.int32]
"""(resamples, rows): how often each resample has each row."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows by prediction and gold label, as floats of one shape; whole numbers, exact to 2^53."""

    tp: Floats
    fp: Floats
    fn: Floats
    tn: Floats

    @staticmethod
    def of(tp: ArrayLike, fp: ArrayLike, positive: ArrayLike, negative: ArrayLike) -> Counts:
        """From true and false positives and the sizes of the classes, which are broadcast."""
        t, f, p, n = (np.asarray(a, dtype=np.float64) for a in (tp, fp, positive, negative))
        return Counts(t, f, p - t, n - f)

    def at(self, place: Any) -> Counts:
        """Return the counts at one place of the arrays, or at several."""
        return Counts(self.tp[place], self.fp[place], self.fn[place], self.tn[place])


@dataclass(frozen=True, slots=True)
class Ranks:
    """Sums over the ranks of each resample's rows.

    `pairs` of a positive and a negative row; `disorder` counts those in the wrong order twice and ties once;
    `precision_sum` adds, over the `positives`, the precision among the rows ranked at least as high. Without
    negative rows `positives` is 0.
    """

    pairs: Floats
    disorder: Floats
    precision_sum: Floats
    positives: Floats

    @staticmethod
    def of(disorder: Floats, precision_sum: Floats, positive: Floats, negative: Floats) -> Ranks:
        """Return the ranks from their sums and the sizes of the classes."""
        return Ranks(positive * negative, disorder, precision_sum, np.where(negative == 0, 0, positive))


class RankedRows:
    """Rows sorted by probability once, for the rank sums of any resamples of them."""

    def __init__(self, up: Floats, down: Floats) -> None:
        """`up` and `down` are the probabilities of positive and of negative rows."""
        self.up, self.down = np.argsort(-up, kind="stable"), np.argsort(-down, kind="stable")
        ups, downs = -up[self.up], -down[self.down]
        self.above = np.searchsorted(downs, ups, side="left")
        self.not_below = np.searchsorted(downs, ups, side="right")
        self.last = np.searchsorted(ups, ups, side="right") - 1
        self.ties = bool((self.last != np.arange(len(up))).any())

    def sums(self, up: Weights, down: Weights) -> tuple[Floats, Floats]:
        """Return `disorder` and `precision_sum` of each resample; see Ranks."""
        up = up.take(self.up, axis=1)
        before = np.zeros((len(down), down.shape[1] + 1), dtype=np.int32)
        np.cumsum(down.take(self.down, axis=1), axis=1, out=before[:, 1:])
        wrong = before.take(self.not_below, axis=1)
        disorder = np.einsum("ij,ij->i", up, wrong + before.take(self.above, axis=1), dtype=np.float64)
        right = np.cumsum(up, axis=1, dtype=np.int32)
        if self.ties:
            right = right.take(self.last, axis=1)
        flagged = np.maximum(right + wrong, 1)  # 0 only where the positive itself was not drawn
        return disorder, np.einsum("ij,ij->i", up, right / flagged, dtype=np.float64)


def ratio(part: Floats, whole: Floats) -> Floats:
    """Return part / whole; NaN where whole is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole == 0, np.nan, part / whole)


@metric("accuracy", better="higher", of="counts")
def accuracy(k: Counts) -> Floats:
    """The share of rows that are predicted right."""
    return ratio(k.tp + k.tn, k.tp + k.fp + k.fn + k.tn)


@metric("balanced_accuracy", better="higher", of="counts", undefined=_ONE_CLASS)
def balanced_accuracy(k: Counts) -> Floats:
    """The mean recall of both classes (Brodersen et al. 2010, ICPR, 3121-3124)."""
    return (recall(k) + ratio(k.tn, k.tn + k.fp)) / 2


@metric("macro_f1", title="macro-F1", better="higher", of="counts", undefined=_UNSEEN_LABEL)
def macro_f1(k: Counts) -> Floats:
    """The mean F1 of both classes (Opitz & Burst 2019, arXiv:1911.03347, their averaged F1)."""
    return (f1(k) + ratio(2 * k.tn, 2 * k.tn + k.fp + k.fn)) / 2


@metric(
    "f1",
    title="F1",
    better="higher",
    of="counts",
    undefined="no row is, or was predicted, positive",
    binary=True,
)
def f1(k: Counts) -> Floats:
    """F1 of the positive class: 2 tp / (2 tp + fp + fn)."""
    return ratio(2 * k.tp, 2 * k.tp + k.fp + k.fn)


@metric("mcc", title="MCC", better="higher", of="counts", undefined="one class only, in gold or predictions")
def mcc(k: Counts) -> Floats:
    """The correlation of predictions and gold labels (Matthews 1975, BBA 405, 442-451)."""
    root = np.sqrt((k.tp + k.fp) * (k.tp + k.fn)) * np.sqrt((k.tn + k.fp) * (k.tn + k.fn))
    return ratio(k.tp * k.tn - k.fp * k.fn, root)


@metric("precision", better="higher", of="counts", undefined="no row was predicted positive", binary=True)
def precision(k: Counts) -> Floats:
    """The share of positive rows among those predicted positive."""
    return ratio(k.tp, k.tp + k.fp)


@metric("recall", better="higher", of="counts", undefined="no row is positive", binary=True)
def recall(k: Counts) -> Floats:
    """The share of rows predicted positive among the positive ones."""
    return ratio(k.tp, k.tp + k.fn)


def _sklearn(name: str, positive: Bools, probability: Floats) -> float:
    """Return a metric of scikit-learn, imported when it is first used: that takes two seconds."""
    from sklearn import metrics

    return float(getattr(metrics, name)(positive, probability))


_ranking_metric = partial(metric, better="higher", of="ranks", undefined=_ONE_CLASS, binary=True)


@_ranking_metric("auroc", title="AUROC", point=partial(_sklearn, "roc_auc_score"))
def auroc(r: Ranks) -> Floats:
    """The share of pairs in the right order, ties counted half (Hanley & McNeil 1982, Radiology 143, 29)."""
    return ratio(r.pairs - r.disorder / 2, r.pairs)


@_ranking_metric("auprc", title="AUPRC", point=partial(_sklearn, "average_precision_score"))
def auprc(r: Ranks) -> Floats:
    """Average precision, the step-wise sum without interpolation (Davis & Goadrich 2006, ICML, 233-240)."""
    return ratio(r.precision_sum, r.positives)


@metric("log_loss", better="lower", of="probabilities")
def log_loss(positive: Bools, probability: Floats) -> Floats:
    """-ln P(gold) of each row, in nats; P(gold) is at least CLIP."""
    of_gold = np.clip(np.where(positive, probability, 1 - probability), CLIP, None)
    return np.asarray(-np.log(of_gold))


@metric("brier", title="Brier score", better="lower", of="probabilities", binary=True)
def brier(positive: Bools, probability: Floats) -> Floats:
    """The squared error of P(positive) (Brier 1950, Monthly Weather Review 78, 1-3; one-class form)."""
    return np.asarray(np.square(probability - positive))


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts of rows by prediction and gold label."""

    tp: int
    fp: int
    fn: int
    tn: int

    @staticmethod
    def of(positive: Bools, predicted: Bools) -> Confusion:
        """Count the rows."""
        tp, flagged, ups = int((predicted & positive).sum()), int(predicted.sum()), int(positive.sum())
        return Confusion(tp=tp, fp=flagged - tp, fn=ups - tp, tn=len(positive) - flagged - ups + tp)


_ALIASES = {"F1": "f1", "loss": "log_loss", "cls_loss": "log_loss"}
"""Names of metrics in files that differ from the registry's."""
_COUNTS = ("tp", "fp", "fn", "tn")
_ORDER = (
    *("loss", "cls_loss", "accuracy", "macro_f1", "auroc", "auprc", "invalid_label_rate"),
    *("decision_threshold", "balanced_accuracy", "F1", "mcc", "precision", "recall", *_COUNTS),
    *("log_loss", "brier", "n", "n_positive", "outside_mass"),
)
"""Numbers in files, in the order of the first version; metrics of plug-ins follow."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """All registered metrics of some rows at one threshold, and the counts that belong to them.

    `values` has the metrics by name, `tp`, `fp`, `fn` and `tn`, `decision_threshold`, the rows `n` and
    `n_positive`, `invalid_label_rate`, and `outside_mass`, the mean probability of anything but a label. None
    is undefined, for the reason in `undefined`; without a threshold all metrics of predictions are.
    """

    values: Mapping[str, float | None]
    undefined: Mapping[str, str] = field(default_factory=dict)
    """By the name in files."""

    def __getitem__(self, name: str) -> float | None:
        """Return a number by its name in the registry or in files.

        None if it is undefined, or was not registered at the measurement. Raises KeyError for other names.
        """
        own = _ALIASES.get(name, name)
        if own not in self.values and own not in METRICS:
            raise KeyError(f"no metric {name!r}")
        return self.values.get(own)

    @property
    def rows(self) -> int:
        """The rows that were measured."""
        return int(self.values["n"] or 0)

    @property
    def macro_f1(self) -> float | None:
        """The mean F1 of both classes; None if it is undefined."""
        return self.values["macro_f1"]

    @property
    def invalid_label_rate(self) -> float | None:
        """The share of rows without a valid label; None without rows."""
        return self.values["invalid_label_rate"]

    def to_json(self) -> dict[str, Any]:
        """Return the mapping that is written."""
        names = (*_ORDER, *(name for name in self.values if name not in _ALIASES.values()))
        return {**{name: self[name] for name in names}, "undefined": dict(self.undefined)}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Metrics:
        """Return the metrics in a file that this project wrote. Raises KeyError if a count is missing."""
        values = {_ALIASES.get(name, name): n for name, n in value.items() if name != "undefined"}
        for name in (*_COUNTS, "n", "n_positive", "decision_threshold"):
            values[name]
        return Metrics(values, value["undefined"])

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Give metrics the form of `to_json` in pydantic models too."""

        def validated(value: Any) -> Metrics:
            try:
                return value if isinstance(value, Metrics) else Metrics.from_json(value)
            except (KeyError, TypeError, AttributeError) as e:
                raise ValueError(f"not metrics, {type(e).__name__}: {e}") from e

        return core_schema.no_info_plain_validator_function(
            validated, serialization=core_schema.plain_serializer_function_ser_schema(Metrics.to_json)
        )


def compute(p: Predictions, threshold: float | None, lacks: str = "no threshold was chosen") -> Metrics:
    """Return all metrics of `p` at `threshold`; if that is None, `lacks` is why nothing is predicted."""
    if threshold is not None and not math.isfinite(threshold):
        raise ValueError(f"a threshold is a finite number, not {threshold}")
    positive, ranking, n, ups = p.positive, p.ranking, len(p), int(p.positive.sum())
    confusion = counts = None
    if threshold is not None:
        confusion = Confusion.of(positive, at_or_above(p.probability, threshold))
        counts = Counts.of(confusion.tp, confusion.fp, ups, n - ups)
    values: dict[str, float | None] = {}
    undefined: dict[str, str] = {}
    for name, each in METRICS.items():
        value, why = math.nan, each.undefined
        if each.of == "counts":
            value, why = (value, lacks) if counts is None else (float(each.function(counts)), why)
        elif n == 0:
            why = _NO_ROWS
        elif each.of == "probabilities":
            value = float(each.function(positive, ranking).mean())
        elif 0 < ups < n:
            value = _ranking_point(each, positive, ranking)
        values[name] = optional(value)
        if math.isnan(value):
            undefined["F1" if name == "f1" else name] = why
    if n == 0:
        undefined |= dict.fromkeys(("loss", "cls_loss", "invalid_label_rate", "outside_mass"), _NO_ROWS)
    values |= {name: None if confusion is None else getattr(confusion, name) for name in _COUNTS}
    values |= {
        "decision_threshold": None if threshold is None else float(threshold),
        "n": n,
        "n_positive": ups,
        "invalid_label_rate": float(p.invalid.mean()) if n else None,
        "outside_mass": float(p.off_label_mass.mean()) if n else None,
    }
    return Metrics(values, undefined)


def _ranking_point(metric: Metric, positive: Bools, probability: Floats) -> float:
    """Return a metric of ranks for rows of both classes."""
    if metric.point is not None:
        return metric.point(positive, probability)
    ups, downs = probability[positive], probability[~positive]
    once = (np.ones((1, len(rows)), dtype=np.int32) for rows in (ups, downs))
    sizes = (np.array([float(len(rows))]) for rows in (ups, downs))
    return float(metric.function(Ranks.of(*RankedRows(ups, downs).sums(*once), *sizes))[0])


def lower_is_better(name: str) -> bool:
    """Return whether a metric is better when smaller, by its name in files or in the registry."""
    if name in METRICS:
        return METRICS.get(name).better == "lower"
    return name in ("loss", "cls_loss", "invalid_label_rate", "outside_mass")


def better(name: str, a: float | None, b: float | None, *, by: float = 0.0) -> bool:
    """Return whether `a` is better than `b` by more than `by`; None is worse than any number."""
    if a is None or b is None:
        return a is not None
    return b - a > by if lower_is_better(name) else a - b > by
