"""The decision threshold by any objective, exact over all candidates, in O(n log n).

Candidates are 0, 1 and the midpoints between neighboring distinct probabilities: every split of the rows that
a threshold from 0 to 1 can make, away from the observed values, where a rounding error flips a row. They are
ranked by whole numbers or by one division of whole numbers, which in floating point are equal only where the
fractions are; macro-F1, a sum of two fractions, is compared by fractions where it nearly ties.

Ties are broken in this order, then by the distance from 0.5, then by the smaller one:

macro_f1, f1, cost      the objective, then accuracy
recall_at_precision     recall among thresholds that are precise enough, then precision
precision_at_recall     precision among thresholds that find enough, then recall
share_flagged           the most rows flagged that the share allows; gold labels play no part
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np

from core.config import ThresholdConfig
from core.evaluation.bootstrap import units_of, weights
from core.evaluation.metrics import Counts, Weights, accuracy, f1, macro_f1, precision, ratio, recall
from core.evaluation.predictions import Bools, Floats, Ints, optional
from core.intervals import Interval, percentile, percentile_ends

DEFAULT = 0.5
MACRO_F1 = ThresholdConfig()
"""The objective by which every checkpoint is measured on val."""
RESAMPLES = 2_000
"""Resamples of `spread`; each chooses a threshold among all its candidates."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A threshold, or None with the reason, and what it does on the rows it was chosen on.

    `reached` is the objective's value there: for cost the mean cost of a row, in wrongly flagged
    negatives; for recall_at_precision the recall.
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


@dataclass(frozen=True, slots=True)
class ThresholdSpread:
    """How much a threshold depends on the val rows that it was chosen on.

    `low` to `high` hold 95 % of the thresholds that resamples choose; `objective` is that of the chosen
    threshold. `optimism` is by how much the objective looks better on the rows it was fitted to than on
    others (Efron 1983, JASA 78, 316-331): a resample's best, minus what that threshold reaches on all rows.
    `unreached` resamples had no threshold; the other values are None if all have none.
    """

    low: float | None
    high: float | None
    objective: Interval
    optimism: float | None
    resamples: int
    unreached: int


def choose(positive: Bools, probability: Floats, config: ThresholdConfig = MACRO_F1) -> Choice:
    """Return the threshold that `config` asks for; a row without a probability (NaN) is predicted 0 at any.

    If no threshold reaches the objective there is none, with the reason. Macro-F1, which every threshold
    reaches, is then 0.5.
    """
    n = len(positive)
    if n == 0:
        why = "no rows were given"
    elif int(positive.sum()) in (0, n) and config.objective != "share_flagged":
        what = "macro-F1" if config.objective == "macro_f1" else f"the objective {config.objective}"
        why = f"all {n} rows are of one class, so {what} does not tell thresholds apart"
    elif np.isnan(probability).all():
        why = f"none of {n} rows has a probability"
    else:
        found = candidates(positive, probability)
        i = int(pick(found, config)[0])
        if i >= 0:
            k, many, ups = found.counts.at((0, i)), found.at.shape[1], int(positive.sum())
            return Choice(
                value=float(found.at[0, i]),
                objective=config.objective,
                reached=float(achieved(k, config)),
                accuracy=float(accuracy(k)),
                precision=optional(precision(k)),
                recall=optional(recall(k)),
                share_flagged=float(k.tp + k.fp) / n,
                candidates=many,
                reason=f"{describe(config)} on {n} rows ({ups} positive), of {many} thresholds",
            )
        why = _why_unreachable(found.counts, config)
    value = None
    if config.objective == "macro_f1":
        value, why = DEFAULT, f"the default {DEFAULT}: {why}"
    return Choice(value, config.objective, None, None, None, None, None, 0, why)


def describe(config: ThresholdConfig) -> str:
    """Return the objective in words."""
    return {
        "macro_f1": "largest macro-F1",
        "f1": "largest F1",
        "cost": f"least cost, a missed positive counting {config.cost_ratio} wrongly flagged negatives",
        "recall_at_precision": f"largest recall at a precision of at least {config.precision}",
        "precision_at_recall": f"largest precision at a recall of at least {config.recall}",
        "share_flagged": f"most rows flagged, at most {config.share} of all",
    }[config.objective]


def rule(config: ThresholdConfig = MACRO_F1) -> str:
    """Return the name of an objective in files: val_max_macro_f1, val_min_cost_5, ..."""
    if config.objective in ("macro_f1", "f1"):
        return f"val_max_{config.objective}"
    return f"val_{'min_' if config.objective == 'cost' else ''}{config.objective}_{config.number:g}"


@dataclass(frozen=True, slots=True)
class Candidates:
    """The candidates of each resample in ascending order, as (resamples, candidates).

    The counts include rows without a probability. `real` marks candidates that a resample's own rows give.
    """

    at: Floats
    counts: Counts
    real: Bools


def candidates(positive: Bools, probability: Floats) -> Candidates:
    """Return the candidates of the rows themselves, as of one resample."""
    once = (np.ones((1, np.count_nonzero(part)), dtype=np.int32) for part in (positive, ~positive))
    return ResampledRows(positive, probability).candidates(*once)


class ResampledRows:
    """Rows sorted by probability once, for the candidates of any resamples of them."""

    def __init__(self, positive: Bools, probability: Floats) -> None:
        """`probability` is NaN where a row has none."""
        self._distinct = np.unique(probability[~np.isnan(probability)])
        self._sorted = []  # of positive and of negative rows: their order, and where each value begins in it
        for p in (probability[positive], probability[~positive]):
            scored = np.flatnonzero(~np.isnan(p))
            order = scored[np.argsort(p[scored], kind="stable")]
            self._sorted.append((order, np.append(np.searchsorted(p[order], self._distinct), len(order))))

    def candidates(self, up: Weights, down: Weights) -> Candidates:
        """Return the candidates of resamples given as weights of positive and of negative rows.

        Weights are (resamples, rows), in the order of rows. A row of weight 0 is not in the resample: no
        candidate is next to it.
        """
        # For each distinct value the weight of rows with it or a larger one, and 0 beyond the last.
        from_value = []
        for of, (order, first) in zip((up, down), self._sorted, strict=True):
            tails = np.zeros((len(of), len(order) + 1), dtype=np.int64)
            np.cumsum(of.take(order, axis=1)[:, ::-1], axis=1, out=tails[:, -2::-1])
            from_value.append(tails.take(first, axis=1))
        tp, fp = from_value
        d, many = self._distinct, len(up)
        here = (tp[:, :-1] > tp[:, 1:]) | (fp[:, :-1] > fp[:, 1:])
        # For each value the next smaller one in the resample; -1 where there is none.
        smaller = np.maximum.accumulate(np.where(here, np.arange(len(d)), -1), axis=1)[:, :-1]
        zeros, ones = np.zeros((many, 1)), np.ones((many, 1))
        low, high = (d[smaller], d[1:]) if len(d) else (zeros[:, :0], zeros[:, :0])
        middle = low + (high - low) / 2
        # Where no number is between the two, the higher one.
        at = np.concatenate([zeros, np.where(middle > low, middle, high), ones], axis=1)
        always = np.ones((many, 1), dtype=np.bool_)
        real = np.concatenate([always, here[:, 1:] & (smaller >= 0), always], axis=1)
        if len(d) == 0:  # neither 0 nor 1 flags anything
            tp, fp = tp.repeat(2, axis=1), fp.repeat(2, axis=1)
        elif d[-1] == 1.0:  # 1 itself is flagged at 1
            tp[:, -1], fp[:, -1] = tp[:, -2], fp[:, -2]
        ups, downs = (weights.sum(axis=1, dtype=np.int64)[:, None] for weights in (up, down))
        return Candidates(at, Counts.of(tp, fp, ups, downs), real)


def pick(found: Candidates, config: ThresholdConfig) -> Ints:
    """Return the index of each resample's best candidate; -1 where none is allowed."""
    k, allowed = found.counts, found.real
    right = k.tp - k.fp
    keys: tuple[Any, ...]  # what is maximized, the most important first
    match config.objective:
        case "macro_f1":
            keys, allowed = (right,), _largest_macro_f1(found)
        case "f1":
            keys = f1(k), right
        case "cost":
            price = Fraction(str(config.cost_ratio)).limit_denominator(1_000_000)
            missed, alarms = k.fn.astype(np.int64), k.fp.astype(np.int64)
            keys = -(price.numerator * missed + price.denominator * alarms), right
        case "recall_at_precision":
            precise = precision(k)
            keys, allowed = (k.tp, precise), precise >= config.number
        case "precision_at_recall":
            keys, allowed = (precision(k), k.tp), (recall(k) >= config.number) & (k.tp + k.fp > 0)
        case "share_flagged":
            flagged = k.tp + k.fp
            keys, allowed = (flagged,), (flagged > 0) & (achieved(k, config) <= config.number)
    left = found.real & allowed
    for key in (*keys, -np.abs(found.at - DEFAULT)):
        least = -np.inf if key.dtype.kind == "f" else np.iinfo(key.dtype).min
        left &= key >= np.where(left, key, least).max(axis=1, keepdims=True)
    return np.where(left.any(axis=1), left.argmax(axis=1), -1)


def achieved(k: Counts, config: ThresholdConfig) -> Floats:
    """Return the objective's value for tables of counts; NaN where it is undefined."""
    match config.objective:
        case "cost":
            return ratio(config.number * k.fn + k.fp, k.tp + k.fp + k.fn + k.tn)
        case "share_flagged":
            return ratio(k.tp + k.fp, k.tp + k.fp + k.fn + k.tn)
        case "macro_f1":
            return macro_f1(k)
        case "f1":
            return f1(k)
        case "recall_at_precision":
            return recall(k)
        case "precision_at_recall":
            return precision(k)


def _largest_macro_f1(found: Candidates) -> Bools:
    """Return the candidates of the largest macro-F1, exactly: equal fractions may differ in the last bit."""
    value = np.where(found.real, macro_f1(found.counts), -np.inf)
    # 1e-9 is more than the rounding error of macro-F1; within it, fractions decide.
    near: Bools = found.real & (value >= value.max(axis=1, keepdims=True) - 1e-9)
    for row in np.flatnonzero(near.sum(axis=1) > 1):
        places = np.flatnonzero(near[row])
        k = found.counts.at((row, places))
        exact = [_exact_macro_f1(*map(int, each)) for each in zip(k.tp, k.fp, k.fn, k.tn, strict=True)]
        near[row, places] = [each == max(exact) for each in exact]
    return near


@lru_cache(maxsize=1 << 14)
def _exact_macro_f1(tp: int, fp: int, fn: int, tn: int) -> Fraction:
    """Return twice macro-F1. Cached because resamples share many counts."""
    return Fraction(2 * tp, 2 * tp + fp + fn) + Fraction(2 * tn, 2 * tn + fp + fn)


def _why_unreachable(k: Counts, config: ThresholdConfig) -> str:
    """Return why no candidate reaches the objective."""
    flagged = k.tp + k.fp
    if config.objective == "recall_at_precision":
        most = np.nanmax(precision(k)) if flagged.any() else 0.0
        return f"no threshold has a precision of {config.precision}; the highest is {most:.4f}"
    if config.objective == "precision_at_recall":
        return f"no threshold has a recall of {config.recall}; the highest is {recall(k).max():.4f}"
    least, rows = int(flagged[flagged > 0].min()), int((flagged + k.fn + k.tn)[0, 0])
    return (
        f"no threshold flags any row and at most {config.share} of all: the {least} rows of highest "
        f"probability, {least / rows:.4f} of all, come together"
    )


def spread(
    positive: Bools,
    probability: Floats,
    chosen: float,
    config: ThresholdConfig,
    groups: Sequence[str | None] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> ThresholdSpread:
    """Return threshold and objective over resamples of the rows, drawn as in core.evaluation.bootstrap."""
    rows, flagged = ResampledRows(positive, probability), (probability >= chosen).astype(np.float64)
    thresholds, best, frozen = np.full((3, resamples), np.nan)
    for start, up, down in weights(units_of(positive, groups), resamples, seed):
        block = slice(start, start + len(up))
        counts = Counts.of(
            up @ flagged[positive], down @ flagged[~positive], up.sum(axis=1), down.sum(axis=1)
        )
        frozen[block] = achieved(counts, config)
        found = rows.candidates(up, down)
        at, k = pick(found, config), found.counts
        both = ((k.tp + k.fn)[:, 0] > 0) & ((k.fp + k.tn)[:, 0] > 0) | (config.objective == "share_flagged")
        chose = np.flatnonzero((at >= 0) & both)
        places = chose, at[chose]
        thresholds[start + chose], best[start + chose] = found.at[places], achieved(k.at(places), config)
    # The predictions on all rows at each threshold; nothing is flagged at NaN.
    every, ups = np.append(thresholds, chosen), int(positive.sum())
    tp, fp = (
        np.maximum(np.count_nonzero(~np.isnan(p)) - np.searchsorted(p, every, side="left"), 0)
        for p in (np.sort(probability[positive]), np.sort(probability[~positive]))
    )
    on_all = achieved(Counts.of(tp, fp, ups, len(positive) - ups), config)
    gain = (on_all[:-1] - best) if config.objective == "cost" else (best - on_all[:-1])
    gain = gain[~np.isnan(gain)]
    low, high = percentile_ends(thresholds) or (None, None)
    return ThresholdSpread(
        low=low,
        high=high,
        objective=percentile(float(on_all[-1]), frozen, "the objective is undefined at this threshold"),
        optimism=float(gain.mean()) if len(gain) else None,
        resamples=resamples,
        unreached=int(np.isnan(thresholds).sum()),
    )
