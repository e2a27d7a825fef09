"""How far the threshold can be trusted: what it would have been on other val rows of the same kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core import jsonio
from core.config.measure import ThresholdConfig
from core.evaluation.bootstrap import units_of, weights
from core.evaluation.candidates import Candidates, Resampled
from core.evaluation.intervals import LEVEL, Interval, percentile
from core.evaluation.metrics import Counts
from core.evaluation.objectives import achieved, pick
from core.evaluation.predictions import Bools, Floats

RESAMPLES = 2_000
"""Each resample chooses a threshold anew, of all its candidates."""


@dataclass(frozen=True, slots=True)
class ThresholdSpread:
    """`low` to `high` hold 95 % of the thresholds that resamples choose; `objective` is the chosen
    threshold's own on resamples.

    `optimism` is by how much the objective looks better on the rows it was fitted to than on others
    (Efron 1983, JASA 78, 316-331): a resample's best, minus what that threshold reaches on all rows.
    `unreached` resamples had no threshold; None where all have none.
    """

    low: float | None
    high: float | None
    objective: Interval
    optimism: float | None
    resamples: int
    unreached: int

    def to_json(self) -> dict[str, Any]:
        """The mapping that is written."""
        return {**jsonio.as_row(self), "objective": self.objective.to_json()}


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
    """The threshold and the objective over resamples of the rows, drawn as in core.evaluation.bootstrap."""
    rows, says = Resampled(positive, probability), (probability >= chosen).astype(np.float64)
    refitted, frozen = np.full((2, resamples), np.nan), np.full(resamples, np.nan)
    for start, up, down in weights(units_of(positive, groups), resamples, seed):
        block = slice(start, start + len(up))
        sizes = up.sum(axis=1), down.sum(axis=1)
        counts = Counts.of(up @ says[positive], down @ says[~positive], *sizes)
        frozen[block] = achieved(counts, config)
        refitted[:, block] = _refitted(*rows.candidates(up, down), config)
    on_all = achieved(_counts(positive, probability, np.append(refitted[0], chosen)), config)
    return ThresholdSpread(
        *_ends(refitted[0]),
        objective=percentile(float(on_all[-1]), frozen, "the objective is undefined at this threshold"),
        optimism=_optimism(refitted[1], on_all[:-1], config),
        resamples=resamples,
        unreached=int(np.isnan(refitted[0]).sum()),
    )


def _refitted(found: Candidates, real: Bools, config: ThresholdConfig) -> Floats:
    """The thresholds that resamples choose, and what these reach there; NaN where there is none."""
    at = pick(found, real, config)
    hopeless = ((found.positive == 0) | (found.negative == 0))[:, 0] & (config.objective != "share_flagged")
    here = np.flatnonzero((at >= 0) & ~hopeless)
    at = at[here]
    sizes = found.positive[here, 0], found.negative[here, 0]
    out = np.full((2, len(real)), np.nan)
    out[0, here] = found.at[here, at]
    out[1, here] = achieved(Counts.of(found.tp[here, at], found.fp[here, at], *sizes), config)
    return out


def _counts(positive: Bools, probability: Floats, at: Floats) -> Counts:
    """What thresholds do on all rows; nothing is flagged at NaN."""
    ups, downs = (np.sort(probability[part]) for part in (positive, ~positive))
    tp, fp = (
        np.maximum(np.count_nonzero(~np.isnan(p)) - np.searchsorted(p, at, side="left"), 0)
        for p in (ups, downs)
    )
    return Counts.of(tp, fp, len(ups), len(downs))


def _ends(values: Floats) -> tuple[float | None, float | None]:
    defined = values[~np.isnan(values)]
    if len(defined) == 0:
        return None, None
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _optimism(own: Floats, on_all: Floats, config: ThresholdConfig) -> float | None:
    gain = (on_all - own) if config.objective == "cost" else (own - on_all)
    gain = gain[~np.isnan(gain)]
    return float(gain.mean()) if len(gain) else None
