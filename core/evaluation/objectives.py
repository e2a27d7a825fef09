"""The decision threshold by any objective, exact over all candidates, in O(n log n).

Each objective ranks candidates by whole numbers or by one division of whole numbers, whose floating
point results are equal only where the fractions are, up to 60 million rows; macro-F1, a sum of two,
is settled by fractions where it is near. After the objective count, in this order, what the objective
says, then the nearest to 0.5, then the smaller threshold:

macro_f1, f1, cost      the objective, then accuracy
recall_at_precision     recall among thresholds that are precise enough, then precision
precision_at_recall     precision among thresholds that find enough, then recall
share_flagged           the most rows flagged that the share allows; gold labels play no part

An objective that no threshold reaches gives none, with the reason. Macro-F1, which every threshold
reaches, gives 0.5 where it does not tell thresholds apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np

from core import jsonio
from core.config.measure import ThresholdConfig
from core.evaluation.candidates import Candidates, Ints, candidates
from core.evaluation.metrics import Counts, f1, macro_f1, precision, ratio, recall
from core.evaluation.predictions import Bools, Floats

DEFAULT = 0.5

_NEAR = 1e-9
"""Macro-F1 in floating point is surer than this; within it, fractions decide."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A threshold, or None with the reason, and what it does on the rows it was chosen on.

    `reached` is the objective's value there: of cost the mean cost of a row, in wrongly flagged
    negatives; of recall_at_precision the recall.
    """

    value: float | None
    objective: str
    reached: float | None
    accuracy: float | None
    precision: float | None
    recall: float | None
    share_flagged: float | None
    candidates: int
    reason: str

    def to_json(self) -> dict[str, Any]:
        """The mapping that is written."""
        return jsonio.as_row(self)


def choose_by(positive: Bools, probability: Floats, config: ThresholdConfig) -> Choice:
    """The threshold that `config` asks for; `probability` is NaN where a row has none."""
    why = _hopeless(positive, probability, config)
    if why is not None:
        return _none(config, why)
    found = candidates(positive, probability)
    one = Candidates(found.at[None], found.tp[None], found.fp[None], found.positive, found.negative)
    i = int(pick(one, np.ones(one.at.shape, dtype=np.bool_), config)[0])
    return _none(config, _unreached(found, config)) if i < 0 else _choice(found, i, config)


def pick(found: Candidates, real: Bools, config: ThresholdConfig) -> Ints:
    """The place of each resample's best candidate, of those that are `real`; -1 where none is allowed."""
    keys, allowed = _KEYS[config.objective](found, config)
    left = real & allowed
    if config.objective == "macro_f1":
        left = _best_macro_f1(found, left)
    for key in (*keys, -np.abs(found.at - DEFAULT)):
        left &= key >= _most(key, left)
    return np.where(left.any(axis=1), left.argmax(axis=1), -1)


def _most(key: Any, left: Bools) -> Any:
    """The largest value of each row, of those that are left."""
    least = -np.inf if key.dtype.kind == "f" else np.iinfo(key.dtype).min
    return np.where(left, key, least).max(axis=1, keepdims=True)


def achieved(counts: Counts, config: ThresholdConfig) -> Floats:
    """The objective's value for tables of counts; NaN where it is undefined."""
    rows = counts.tp + counts.fp + counts.fn + counts.tn
    if config.objective == "cost":
        return ratio(config.number * counts.fn + counts.fp, rows)
    if config.objective == "share_flagged":
        return ratio(counts.tp + counts.fp, rows)
    return _METRIC[config.objective](counts)


def describe(config: ThresholdConfig) -> str:
    """The objective in words."""
    return {
        "macro_f1": "largest macro-F1",
        "f1": "largest F1",
        "cost": f"least cost, a missed positive counting {config.cost_ratio} wrongly flagged negatives",
        "recall_at_precision": f"largest recall at a precision of at least {config.precision}",
        "precision_at_recall": f"largest precision at a recall of at least {config.recall}",
        "share_flagged": f"most rows flagged, at most {config.share} of all",
    }[config.objective]


_METRIC: Mapping[str, Callable[[Counts], Floats]] = {
    "macro_f1": macro_f1,
    "f1": f1,
    "recall_at_precision": recall,
    "precision_at_recall": precision,
}

_Keys = tuple[Sequence[Any], Bools]


def _after_macro_f1(found: Candidates, config: ThresholdConfig) -> _Keys:
    """What counts where macro-F1 is the largest; see _best_macro_f1."""
    return (_right(found),), _all(found)


def _f1(found: Candidates, config: ThresholdConfig) -> _Keys:
    return (f1(found.counts), _right(found)), _all(found)


def _cost(found: Candidates, config: ThresholdConfig) -> _Keys:
    price = Fraction(str(config.cost_ratio)).limit_denominator(1_000_000)
    cost = price.numerator * (found.positive - found.tp) + price.denominator * found.fp
    return (-cost, _right(found)), _all(found)


def _recall_at_precision(found: Candidates, config: ThresholdConfig) -> _Keys:
    precise = precision(found.counts)
    return (found.tp, precise), precise >= config.number


def _precision_at_recall(found: Candidates, config: ThresholdConfig) -> _Keys:
    precise = precision(found.counts)
    return (precise, found.tp), (recall(found.counts) >= config.number) & ~np.isnan(precise)


def _share_flagged(found: Candidates, config: ThresholdConfig) -> _Keys:
    flagged = found.tp + found.fp
    return (flagged,), (flagged > 0) & (flagged / found.rows <= config.number)


_KEYS: Mapping[str, Callable[[Candidates, ThresholdConfig], _Keys]] = {
    "macro_f1": _after_macro_f1,
    "f1": _f1,
    "cost": _cost,
    "recall_at_precision": _recall_at_precision,
    "precision_at_recall": _precision_at_recall,
    "share_flagged": _share_flagged,
}


def _right(found: Candidates) -> Ints:
    return found.tp - found.fp


def _all(found: Candidates) -> Bools:
    return np.ones(found.tp.shape, dtype=np.bool_)


def _best_macro_f1(found: Candidates, left: Bools) -> Bools:
    """Those of the largest macro-F1, exactly: counts that tie on paper may differ in the last bit."""
    value = np.where(left, macro_f1(found.counts), -np.inf)
    near: Bools = left & (value >= value.max(axis=1, keepdims=True) - _NEAR)
    sizes = np.stack([np.broadcast_to(of, (len(near), 1)) for of in (found.positive, found.negative)])
    for row in np.flatnonzero(near.sum(axis=1) > 1):
        places, (ups, downs) = np.flatnonzero(near[row]), sizes[:, row, 0]
        counts = zip(found.tp[row, places], found.fp[row, places], strict=True)
        exact = [_exact_macro_f1(int(tp), int(fp), int(ups), int(downs)) for tp, fp in counts]
        near[row, places] = [each == max(exact) for each in exact]
    return near


@lru_cache(maxsize=1 << 14)
def _exact_macro_f1(tp: int, fp: int, positive: int, negative: int) -> Fraction:
    """Twice macro-F1. A resample's counts come again in others."""
    wrong, tn = fp + (positive - tp), negative - fp
    return Fraction(2 * tp, 2 * tp + wrong) + Fraction(2 * tn, 2 * tn + wrong)


def _hopeless(positive: Bools, probability: Floats, config: ThresholdConfig) -> str | None:
    n, ups = len(positive), int(positive.sum())
    if n == 0:
        return "there are no rows"
    if ups in (0, n) and config.objective != "share_flagged":
        what = "macro-F1" if config.objective == "macro_f1" else f"the objective {config.objective}"
        return f"all {n} rows are of one class, so {what} does not tell thresholds apart"
    return f"none of {n} rows has a probability" if np.isnan(probability).all() else None


def _unreached(found: Candidates, config: ThresholdConfig) -> str:
    counts = found.counts
    if config.objective == "recall_at_precision":
        most = np.nanmax(precision(counts)) if (found.tp + found.fp).any() else 0.0
        return f"no threshold has a precision of {config.precision}; the highest is {most:.4f}"
    if config.objective == "precision_at_recall":
        return f"no threshold has a recall of {config.recall}; the highest is {recall(counts).max():.4f}"
    flagged = found.tp + found.fp
    least = flagged[flagged > 0].min()
    return (
        f"no threshold flags any row and at most {config.share} of all: the {least} rows of highest "
        f"probability, {least / found.rows:.4f} of all, come together"
    )


def _none(config: ThresholdConfig, why: str) -> Choice:
    default = config.objective == "macro_f1"
    reason = f"the default {DEFAULT}: {why}" if default else why
    value = DEFAULT if default else None
    return Choice(value, config.objective, None, None, None, None, None, 0, reason)


def _choice(found: Candidates, i: int, config: ThresholdConfig) -> Choice:
    k = Counts.of(found.tp[i], found.fp[i], found.positive, found.negative)
    precise, recalled = float(precision(k)), float(recall(k))
    return Choice(
        value=float(found.at[i]),
        objective=config.objective,
        reached=float(achieved(k, config)),
        accuracy=int(found.tp[i] + found.negative - found.fp[i]) / int(found.rows),
        precision=None if np.isnan(precise) else precise,
        recall=None if np.isnan(recalled) else recalled,
        share_flagged=int(found.tp[i] + found.fp[i]) / int(found.rows),
        candidates=len(found),
        reason=f"{describe(config)} on {found.rows} rows ({found.positive} positive), "
        f"of {len(found)} thresholds",
    )
