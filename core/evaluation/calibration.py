"""Calibration: one rising curve from the model's probabilities to probabilities that hold on val.

none          the identity
temperature   the log odds divided by one number (Guo et al. 2017, arXiv:1706.04599)
platt         a slope and a shift of the log odds, fitted to Platt's smoothed targets (Platt 1999)
isotonic      any rising curve (Zadrozny & Elkan 2002), linear between its steps
auto          the simplest of these whose log loss on five held-out folds is within one standard error
              of the best one's (the rule of Breiman et al. 1984), in the order above

All are fitted by log loss. A fit that would reverse the order of rows, or has too few, gives `none`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from core.config import CalibrationConfig
from core.evaluation.bootstrap import units_of
from core.evaluation.metrics import CLIP, log_loss
from core.evaluation.predictions import Bools, Floats, Predictions

CurveKind = Literal["none", "temperature", "platt", "isotonic"]
Parameters = Mapping[str, Any]
"""Numbers, or lists of numbers, by name."""
FOLDS = 5
LEAST_FOR_AUTO = 50
"""Rows that `auto` needs, and LEAST_OF_CLASS of each class; with fewer it chooses none."""
LEAST_OF_CLASS = 10
LEAST_FOR_ISOTONIC = 200
LEAST_OF_CLASS_FOR_ISOTONIC = 50
COLDEST, HOTTEST = 0.01, 100.0
_UNRELATED = "the probabilities say nothing of the labels, or the opposite"


class Unfit(ValueError):
    """The rows cannot carry this curve, for the reason in the message."""


@dataclass(frozen=True, slots=True)
class Calibrator:
    """A frozen curve, what it was fitted on, and why it was chosen.

    `rows` and `positive` count the rows that had a probability. Log losses are in nats, on these
    rows; None where there are none.
    """

    kind: CurveKind
    parameters: Parameters
    asked: str
    rows: int
    positive: int
    log_loss_before: float | None
    log_loss_after: float | None
    reason: str

    @staticmethod
    def identity(reason: str) -> Calibrator:
        """Return the calibrator that changes nothing and was fitted to nothing."""
        return Calibrator("none", {}, "none", 0, 0, None, None, reason)

    def apply(self, probability: Floats) -> Floats:
        return curve(self.kind, self.parameters, probability)

    def apply_to(self, p: Predictions) -> Predictions:
        """Return the predictions with calibrated probabilities."""
        return p if self.kind == "none" else p.with_probability(self.apply(p.probability))


def calibrate(
    positive: Bools,
    probability: Floats,
    config: CalibrationConfig,
    groups: Sequence[str | None] | None = None,
    *,
    seed: int = 0,
) -> Calibrator:
    """Return the calibrator that `config` asks for, fitted to the rows that have a probability.

    `groups` keeps rows of one group in one fold of `auto`.
    """
    scored = ~np.isnan(probability)
    y, p = positive[scored], probability[scored]
    kind: CurveKind = "none"
    parameters: Parameters = {}
    if config.method == "none":
        reason = "not asked for"
    elif config.method == "auto":
        kept = None if groups is None else [g for g, s in zip(groups, scored, strict=True) if s]
        kind, reason = _choose_kind(y, p, kept, seed)
        parameters = FITS[kind](y, p)
    else:
        try:
            parameters = FITS[config.method](y, p)
            kind, reason = config.method, "as asked"
        except Unfit as why:
            reason = f"{config.method} cannot be fitted: {why}"
    before = float(log_loss(y, p).mean()) if len(y) else None
    after = float(log_loss(y, curve(kind, parameters, p)).mean()) if len(y) else None
    return Calibrator(kind, parameters, config.method, len(y), int(y.sum()), before, after, reason)


def _choose_kind(
    y: Bools, p: Floats, groups: Sequence[str | None] | None, seed: int
) -> tuple[CurveKind, str]:
    """Return what `auto` chooses, and why."""
    if short := _shortage(y, LEAST_FOR_AUTO, LEAST_OF_CLASS):
        return "none", f"auto needs {short}"
    units = units_of(y, groups)
    rng = np.random.default_rng(seed)
    dealt = np.concatenate([rng.permutation(size) for size in units.sizes])  # classes spread evenly
    fold = np.empty(len(y))
    fold[y], fold[~y] = dealt[units.of_positive] % FOLDS, dealt[units.of_negative] % FOLDS
    held_out: dict[CurveKind, Floats] = {}  # each row's log loss under the curve fitted without its fold
    for kind, fit in FITS.items():
        losses = np.empty(len(y))
        try:
            fit(y, p)
            for k in range(FOLDS):
                held = fold == k
                losses[held] = log_loss(y[held], curve(kind, fit(y[~held], p[~held]), p[held]))
        except Unfit:
            continue
        held_out[kind] = losses
    means = {kind: float(losses.mean()) for kind, losses in held_out.items()}
    best = held_out[min(means, key=lambda kind: means[kind])]
    worse = {kind: losses - best for kind, losses in held_out.items()}
    chosen = next(k for k, by in worse.items() if by.mean() <= by.std(ddof=1) / np.sqrt(len(by)))
    listed = ", ".join(f"{each} {mean:.4f}" for each, mean in means.items())
    rule = f"the simplest within one standard error of the best log loss on {FOLDS} held-out folds"
    return chosen, f"{rule}: {listed}"


def _shortage(y: Bools, rows: int, of_class: int) -> str:
    """Return how many rows are needed and found, if these are too few."""
    fewest = min(int(y.sum()), int((~y).sum()))
    if len(y) >= rows and fewest >= of_class:
        return ""
    return f"{rows} rows and {of_class} of each class; here are {len(y)} and {fewest}"


def temperature(y: Bools, p: Floats) -> Parameters:
    """Fit T of sigmoid(log odds / T). The loss is convex in 1/T, so its slope has one root."""
    from scipy.optimize import brentq
    from scipy.special import expit

    _require_both_classes(y)
    z = log_odds(p)

    def slope(inverse: float) -> float:
        return float(((expit(inverse * z) - y) * z).sum())

    cold, hot = 1 / COLDEST, 1 / HOTTEST
    if slope(hot) >= 0:
        raise Unfit(_UNRELATED)
    if slope(cold) <= 0:
        raise Unfit("the probabilities part the classes without error, so that no temperature is cold enough")
    return {"temperature": 1 / brentq(slope, hot, cold, xtol=1e-14, rtol=1e-14)}


def platt(y: Bools, p: Floats) -> Parameters:
    """Fit slope and shift of the log odds to the targets (n1 + 1)/(n1 + 2) and 1/(n0 + 2)."""
    _require_both_classes(y)
    z = log_odds(p)
    if np.ptp(z) == 0:
        raise Unfit("all probabilities are the same")
    ups, downs = int(y.sum()), int((~y).sum())
    target = np.where(y, (ups + 1) / (ups + 2), 1 / (downs + 2))
    middle, scale = z.mean(), z.std()
    design = np.stack([(z - middle) / scale, np.ones_like(z)], axis=1)  # nearly independent columns
    slope, shift = _logistic_regression(design, target)
    if slope <= 0:
        raise Unfit(_UNRELATED)
    return {"slope": float(slope / scale), "shift": float(shift - slope * middle / scale)}


def isotonic(y: Bools, p: Floats) -> Parameters:
    """Fit the rising steps of least squares, which also have the least log loss among rising curves
    (Robertson, Wright & Dykstra 1988, 1.5), at the rows' own probabilities.

    The ends are kept 1/(n + 2) away from 0 and 1, which no number of rows can justify.
    """
    if short := _shortage(y, LEAST_FOR_ISOTONIC, LEAST_OF_CLASS_FOR_ISOTONIC):
        raise Unfit(f"it needs {short}")
    from scipy.optimize import isotonic_regression

    at, place, many = np.unique(p, return_inverse=True, return_counts=True)
    share = np.bincount(place, weights=y) / many
    rising = isotonic_regression(share, weights=many).x
    if rising[0] == rising[-1]:
        raise Unfit(_UNRELATED)
    steps = rising[1:] != rising[:-1]
    edge = np.append(True, steps) | np.append(steps, True)
    least_share = 1 / (len(y) + 2)
    held = np.clip(rising[edge], least_share, 1 - least_share)
    return {"at": at[edge].tolist(), "to": held.tolist()}


FITS: Mapping[CurveKind, Callable[[Bools, Floats], Parameters]] = {
    "none": lambda y, p: {},
    "temperature": temperature,
    "platt": platt,
    "isotonic": isotonic,
}
"""How each kind is fitted to gold labels and probabilities, the simplest first."""


def curve(kind: str, parameters: Parameters, p: Floats) -> Floats:
    """Return a fitted curve's values in float64, whatever the scores' own precision; NaN stays NaN."""
    from scipy.special import expit

    p = np.asarray(p, np.float64)
    if kind == "temperature":
        return np.asarray(expit(log_odds(p) / parameters["temperature"]))
    if kind == "platt":
        return np.asarray(expit(parameters["slope"] * log_odds(p) + parameters["shift"]))
    if kind == "isotonic":
        return np.interp(p, parameters["at"], parameters["to"])
    return p


def log_odds(p: Floats) -> Floats:
    """Return ln(p / (1 - p)) of probabilities that are kept 1e-12 away from 0 and 1."""
    held = np.clip(np.asarray(p, np.float64), CLIP, 1 - CLIP)
    return np.asarray(np.log(held) - np.log1p(-held))


def confidence(probability: Floats, threshold: float) -> Floats:
    """Return the distance of each row's log odds from the threshold's; -1 for a row without a probability."""
    away = np.abs(log_odds(probability) - log_odds(np.array([threshold])))
    return np.where(np.isnan(away), -1.0, away)


def _require_both_classes(y: Bools) -> None:
    if y.all() or not y.any():
        raise Unfit("the rows are of one class")


def _logistic_regression(design: Floats, target: Floats) -> Floats:
    """Return the weights of the logistic regression of `target` on `design`, by Newton's method with halved
    steps (Lin, Lin & Weng 2007, Machine Learning 68, 267-276).

    scikit-learn's LogisticRegression finds the same within 1e-9, in five times the time.
    """
    from scipy.special import expit

    def loss(w: Floats) -> float:
        z = design @ w
        return float((np.logaddexp(0, z) - target * z).sum())

    w = np.zeros(design.shape[1])
    for _ in range(100):
        fitted = expit(design @ w)
        gradient = design.T @ (fitted - target)
        if np.abs(gradient).max() <= 1e-12 * len(target):
            break
        curvature = (design * (fitted * (1 - fitted))[:, None]).T @ design
        step = np.linalg.solve(curvature + 1e-14 * np.eye(len(w)), gradient)
        now, size = loss(w), 1.0
        while loss(w - size * step) > now and size > 1e-10:
            size /= 2
        w = w - size * step
    return w
