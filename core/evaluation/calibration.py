"""Calibration: one rising curve from the model's probabilities to probabilities that hold on val.

none          the identity
temperature   the log odds divided by one number (Guo et al. 2017, arXiv:1706.04599)
platt         a slope and a shift of the log odds, fitted to Platt's smoothed targets (Platt 1999)
isotonic      any rising curve (Zadrozny & Elkan 2002), straight between its steps; only with at least
              200 rows and 50 of each class, since with fewer each step rests on a handful of rows
auto          the simplest of these whose log loss on five held-out folds is within one standard error
              of the best one's (the rule of Breiman et al. 1984), in the order above

All are fitted on val alone, by log loss. None turns the order of two rows round: a fit that would,
or that the rows cannot carry, gives `none` and the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from core.config.measure import CalibrationConfig
from core.evaluation.bootstrap import units_of
from core.evaluation.calibration_fits import FITS, Parameters, Unfit, curve
from core.evaluation.metrics import log_loss
from core.evaluation.predictions import Bools, Floats, Predictions

Kind = Literal["none", "temperature", "platt", "isotonic"]
SIMPLEST_FIRST: tuple[Kind, ...] = ("none", "temperature", "platt", "isotonic")
FOLDS = 5
LEAST_FOR_AUTO = 50
"""Rows that `auto` needs, and LEAST_OF_CLASS of each class: of fewer it takes none."""
LEAST_OF_CLASS = 10


@dataclass(frozen=True, slots=True)
class Calibrator:
    """A frozen curve, what it was fitted on, and why it is what it is.

    `rows` and `positive` count the rows that had a probability. Log losses are in nats, on these
    rows; None where there are none.
    """

    kind: Kind
    parameters: Parameters
    asked: str
    rows: int
    positive: int
    log_loss_before: float | None
    log_loss_after: float | None
    reason: str

    def apply(self, probability: Floats) -> Floats:
        """The calibrated probabilities; NaN, a row without one, stays NaN."""
        return curve(self.kind, self.parameters, probability)

    def apply_to(self, p: Predictions) -> Predictions:
        """Return the predictions with calibrated probabilities; a row without one stays as it is."""
        return p if self.kind == "none" else p.with_probability(self.apply(p.probability))

    def to_json(self) -> dict[str, Any]:
        """The mapping that is written."""
        return {
            "kind": self.kind,
            "parameters": {k: list(v) if isinstance(v, tuple) else v for k, v in self.parameters.items()},
            "asked": self.asked,
            "rows": self.rows,
            "positive": self.positive,
            "log_loss_before": self.log_loss_before,
            "log_loss_after": self.log_loss_after,
            "reason": self.reason,
        }


def identity(reason: str) -> Calibrator:
    """The calibrator that changes nothing and was fitted to nothing."""
    return Calibrator("none", {}, "none", 0, 0, None, None, reason)


def from_json(value: Mapping[str, Any]) -> Calibrator:
    """The calibrator in a file that this project wrote."""
    found = {k: tuple(v) if isinstance(v, list) else v for k, v in value["parameters"].items()}
    return Calibrator(**{**value, "parameters": found})


def calibrate(
    positive: Bools,
    probability: Floats,
    config: CalibrationConfig,
    groups: Sequence[str | None] | None = None,
    *,
    seed: int = 0,
) -> Calibrator:
    """The calibrator that `config` asks for, fitted to the rows that have a probability.

    `groups` keeps rows of one group in one fold of `auto`.
    """
    scored = ~np.isnan(probability)
    y, p = positive[scored], probability[scored]
    kept = None if groups is None else [g for g, s in zip(groups, scored, strict=True) if s]
    if config.method == "none":
        return _made("none", {}, "none", y, p, "not asked for")
    if config.method == "auto":
        return _auto(y, p, kept, seed)
    try:
        return _made(config.method, FITS[config.method](y, p), config.method, y, p, "as asked")
    except Unfit as why:
        return _made("none", {}, config.method, y, p, f"{config.method} cannot be fitted: {why}")


def _made(kind: Kind, parameters: Parameters, asked: str, y: Bools, p: Floats, reason: str) -> Calibrator:
    before = float(log_loss(y, p).mean()) if len(y) else None
    after = float(log_loss(y, curve(kind, parameters, p)).mean()) if len(y) else None
    return Calibrator(kind, parameters, asked, len(y), int(y.sum()), before, after, reason)


def _auto(y: Bools, p: Floats, groups: Sequence[str | None] | None, seed: int) -> Calibrator:
    fewest = min(int(y.sum()), int((~y).sum()))
    if len(y) < LEAST_FOR_AUTO or fewest < LEAST_OF_CLASS:
        least = f"{LEAST_FOR_AUTO} rows and {LEAST_OF_CLASS} of each class"
        return _made("none", {}, "auto", y, p, f"auto needs {least}; here are {len(y)} and {fewest}")
    held_out = _held_out(y, p, _folds(y, groups, seed))
    means = {kind: float(losses.mean()) for kind, losses in held_out.items()}
    best = min(means, key=lambda kind: means[kind])
    chosen = next(kind for kind in held_out if _as_good(held_out[kind], held_out[best]))
    said = ", ".join(f"{kind} {mean:.4f}" for kind, mean in means.items())
    reason = f"the simplest within one standard error of the best log loss on {FOLDS} held-out folds: {said}"
    return _made(chosen, FITS[chosen](y, p), "auto", y, p, reason)


def _as_good(losses: Floats, best: Floats) -> bool:
    worse = losses - best
    return bool(worse.mean() <= worse.std(ddof=1) / np.sqrt(len(worse)))


def _held_out(y: Bools, p: Floats, fold: Floats) -> dict[Kind, Floats]:
    """Each row's log loss under the curve that was fitted without its fold, by kind, simplest first."""
    out: dict[Kind, Floats] = {}
    for kind in SIMPLEST_FIRST:
        losses = np.empty(len(y))
        try:
            FITS[kind](y, p)
            for k in range(FOLDS):
                held = fold == k
                losses[held] = log_loss(y[held], curve(kind, FITS[kind](y[~held], p[~held]), p[held]))
        except Unfit:
            continue
        out[kind] = losses
    return out


def _folds(y: Bools, groups: Sequence[str | None] | None, seed: int) -> Floats:
    """The fold of each row; classes are spread evenly, groups stay whole."""
    units = units_of(y, groups)
    rng = np.random.default_rng(seed)
    dealt = np.concatenate([rng.permutation(size) for size in units.sizes])
    fold = np.empty(len(y))
    fold[y], fold[~y] = dealt[units.of_positive] % FOLDS, dealt[units.of_negative] % FOLDS
    return fold
