"""The curves of calibration: how each is fitted by log loss, and how it is applied."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from core.evaluation.metrics import CLIP
from core.evaluation.predictions import Bools, Floats

Parameters = Mapping[str, Any]
"""Numbers, or tuples of numbers, by name."""

LEAST_ROWS = 200
LEAST_OF_CLASS = 50
COLDEST, HOTTEST = 0.01, 100.0
_STEPS = 100


class Unfit(ValueError):
    """The rows cannot carry this curve; says why."""


def temperature(y: Bools, p: Floats) -> Parameters:
    """T of sigmoid(log odds / T). The loss is convex in 1/T, so its slope has one root."""
    from scipy.optimize import brentq

    _both_classes(y)
    z = log_odds(p)

    def slope(inverse: float) -> float:
        return float(((sigmoid(inverse * z) - y) * z).sum())

    cold, hot = 1 / COLDEST, 1 / HOTTEST
    if slope(hot) >= 0:
        raise Unfit("the probabilities say nothing of the labels, or the opposite")
    if slope(cold) <= 0:
        raise Unfit("the probabilities part the classes without error, so that no temperature is cold enough")
    return {"temperature": 1 / brentq(slope, hot, cold, xtol=1e-14, rtol=1e-14)}


def platt(y: Bools, p: Floats) -> Parameters:
    """Slope and shift of the log odds, for targets (n1 + 1)/(n1 + 2) and 1/(n0 + 2).

    By Newton's method with halved steps (Lin, Lin & Weng 2007, Machine Learning 68, 267-276); the
    smoothed targets keep the optimum finite.
    """
    _both_classes(y)
    z = log_odds(p)
    if np.ptp(z) == 0:
        raise Unfit("all probabilities are the same")
    ups, downs = int(y.sum()), int((~y).sum())
    target = np.where(y, (ups + 1) / (ups + 2), 1 / (downs + 2))
    middle, scale = z.mean(), z.std()
    design = np.stack([(z - middle) / scale, np.ones_like(z)], axis=1)  # near to independent columns
    slope, shift = _newton(design, target)
    if slope <= 0:
        raise Unfit("the probabilities say nothing of the labels, or the opposite")
    return {"slope": float(slope / scale), "shift": float(shift - slope * middle / scale)}


def isotonic(y: Bools, p: Floats) -> Parameters:
    """The steps of the rising curve of least squares, which also has the least log loss among rising
    curves (Robertson, Wright & Dykstra 1988, 1.5), at the rows' own probabilities.

    Steps at 0 and 1 would promise what no number of rows can: the ends are held 1/(n + 2) away.
    """
    fewest = min(int(y.sum()), int((~y).sum()))
    if len(y) < LEAST_ROWS or fewest < LEAST_OF_CLASS:
        least = f"{LEAST_ROWS} rows and {LEAST_OF_CLASS} of each class"
        raise Unfit(f"it needs {least}; here are {len(y)} and {fewest}")
    from scipy.optimize import isotonic_regression

    at, place, many = np.unique(p, return_inverse=True, return_counts=True)
    share = np.bincount(place, weights=y) / many
    rising = isotonic_regression(share, weights=many).x
    if rising[0] == rising[-1]:
        raise Unfit("the probabilities say nothing of the labels, or the opposite")
    edge = np.concatenate([[True], rising[1:] != rising[:-1]]) | np.concatenate(
        [rising[1:] != rising[:-1], [True]]
    )
    least_share = 1 / (len(y) + 2)
    held = np.clip(rising[edge], least_share, 1 - least_share)
    return {"at": tuple(at[edge].tolist()), "to": tuple(held.tolist())}


FITS: Mapping[str, Callable[[Bools, Floats], Parameters]] = {
    "none": lambda y, p: {},
    "temperature": temperature,
    "platt": platt,
    "isotonic": isotonic,
}


def curve(kind: str, parameters: Parameters, p: Floats) -> Floats:
    """A fitted curve's values in float64, whatever the scores' own precision; NaN stays NaN."""
    p = np.asarray(p, np.float64)
    if kind == "temperature":
        return sigmoid(log_odds(p) / parameters["temperature"])
    if kind == "platt":
        return sigmoid(parameters["slope"] * log_odds(p) + parameters["shift"])
    if kind == "isotonic":
        return np.interp(p, parameters["at"], parameters["to"])
    return p


def log_odds(p: Floats) -> Floats:
    """ln(p / (1 - p)), of probabilities held 1e-12 away from 0 and 1."""
    held = np.clip(np.asarray(p, np.float64), CLIP, 1 - CLIP)
    out: Floats = np.log(held) - np.log1p(-held)
    return out


def sigmoid(z: Floats) -> Floats:
    """1 / (1 + exp(-z)) without overflow."""
    from scipy.special import expit

    out: Floats = expit(z)
    return out


def _both_classes(y: Bools) -> None:
    if y.all() or not y.any():
        raise Unfit("the rows are of one class")


def _newton(design: Floats, target: Floats) -> Floats:
    """The logistic regression of `target` on `design`."""

    def loss(w: Floats) -> float:
        z = design @ w
        return float((np.logaddexp(0, z) - target * z).sum())

    w = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        said = sigmoid(design @ w)
        gradient = design.T @ (said - target)
        if np.abs(gradient).max() <= 1e-12 * len(target):
            break
        curvature = (design * (said * (1 - said))[:, None]).T @ design
        step = np.linalg.solve(curvature + 1e-14 * np.eye(len(w)), gradient)
        now, size = loss(w), 1.0
        while loss(w - size * step) > now and size > 1e-10:
            size /= 2
        w = w - size * step
    return w
