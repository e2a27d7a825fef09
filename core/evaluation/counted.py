"""Metrics of a table of right and wrong predictions, for one table or for many at once.

F1 = 2tp / (2tp + fp + fn), macro-F1 is the mean of both classes' F1 (Opitz & Burst 2019,
arXiv:1911.03347, their averaged F1); balanced accuracy is the mean of both recalls (Brodersen et al.
2010); MCC: Matthews 1975. NaN is undefined.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from core.evaluation.columns import Floats


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


def ratio(part: Floats, whole: Floats) -> Floats:
    """part / whole; NaN where whole is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        out: Floats = np.where(whole == 0, np.nan, part / whole)
    return out


def accuracy(k: Counts) -> Floats:
    return ratio(k.tp + k.tn, k.tp + k.fp + k.fn + k.tn)


def recall(k: Counts) -> Floats:
    return ratio(k.tp, k.tp + k.fn)


def precision(k: Counts) -> Floats:
    return ratio(k.tp, k.tp + k.fp)


def f1(k: Counts) -> Floats:
    return ratio(2 * k.tp, 2 * k.tp + k.fp + k.fn)


def macro_f1(k: Counts) -> Floats:
    return (f1(k) + ratio(2 * k.tn, 2 * k.tn + k.fp + k.fn)) / 2


def balanced_accuracy(k: Counts) -> Floats:
    return (recall(k) + ratio(k.tn, k.tn + k.fp)) / 2


def mcc(k: Counts) -> Floats:
    root = np.sqrt((k.tp + k.fp) * (k.tp + k.fn)) * np.sqrt((k.tn + k.fp) * (k.tn + k.fn))
    return ratio(k.tp * k.tn - k.fp * k.fn, root)


OF_COUNTS: Mapping[str, Callable[[Counts], Floats]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "f1": f1,
    "mcc": mcc,
    "precision": precision,
    "recall": recall,
}

_ONE_CLASS = "the rows are of one class"
_WHY = {
    "recall": "no row is positive",
    "precision": "no row was predicted positive",
    "f1": "no row is, or was predicted, positive",
    "macro_f1": "a label that no row has and none was predicted",
    "mcc": "one class only, in gold or predictions",
    "balanced_accuracy": _ONE_CLASS,
    "auroc": _ONE_CLASS,
    "auprc": _ONE_CLASS,
}


def why_undefined(name: str) -> str:
    """What is the matter with rows on which a metric is undefined."""
    return _WHY.get(name, "no rows")
