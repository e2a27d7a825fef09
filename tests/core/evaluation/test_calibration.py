"""Calibration: curves equal scikit-learn or the optimum and keep the order; impossible fits are reported."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from core.config import CalibrationConfig
from core.evaluation.calibration import (
    Calibrator,
    calibrate,
    confidence,
    curve,
    isotonic,
    log_odds,
    platt,
    temperature,
)
from core.evaluation.predictions import Bools, Floats
from tests.core.evaluation.scored import ROWS, Scored, as_rows, draw

METHODS = ("none", "temperature", "platt", "isotonic", "auto")


def honest(n: int, *, seed: int, heat: float = 1.0, shift: float = 0.0) -> tuple[Bools, Floats]:
    """Labels drawn by probabilities, and those probabilities with log odds times `heat` plus `shift`."""
    rng = np.random.default_rng(seed)
    z = rng.normal(-0.5, 1.5, n)
    return rng.random(n) < expit(z), expit(heat * z + shift)


def fitted(y: Bools, p: Floats, method: str) -> Calibrator:
    return calibrate(y, p, CalibrationConfig.model_validate({"method": method}))


def test_temperature_is_a_logistic_regression_without_intercept() -> None:
    y, p = honest(400, seed=1, heat=2.5)
    model = LogisticRegression(
        C=np.inf, fit_intercept=False, solver="newton-cholesky", tol=1e-14, max_iter=1000
    ).fit(logit(p)[:, None], y)
    assert 1 / temperature(y, p)["temperature"] == pytest.approx(model.coef_[0, 0], abs=1e-9)
    assert temperature(y, p)["temperature"] == pytest.approx(2.5, rel=0.25)


def test_platt_is_a_logistic_regression_on_smoothed_targets() -> None:
    y, p = honest(300, seed=2, heat=0.5, shift=1.0)
    ups, downs = y.sum(), (~y).sum()
    target = np.where(y, (ups + 1) / (ups + 2), 1 / (downs + 2))
    z = np.concatenate([logit(p), logit(p)])[:, None]
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-14, max_iter=1000).fit(
        z, np.repeat([1, 0], len(y)), sample_weight=np.concatenate([target, 1 - target])
    )
    found = platt(y, p)
    assert found["slope"] == pytest.approx(model.coef_[0, 0], abs=1e-9)
    assert found["shift"] == pytest.approx(model.intercept_[0], abs=1e-9)


@pytest.mark.parametrize("steps", [0, 20])
def test_isotonic_equals_scikit_learn_except_at_its_ends(steps: int) -> None:
    y, p = honest(500, seed=3)
    p = np.round(p * steps) / steps if steps else p
    at = np.concatenate([p, np.linspace(0, 1, 101)])
    wanted = IsotonicRegression(out_of_bounds="clip").fit(p, y.astype(float))
    held = np.clip(wanted.y_thresholds_, 1 / 502, 501 / 502)
    found = fitted(y, p, "isotonic")
    assert found.kind == "isotonic"
    assert found.apply(at) == pytest.approx(np.interp(at, wanted.X_thresholds_, held), abs=1e-9)


@given(st.integers(0, 10_000), st.sampled_from(METHODS), st.integers(210, 400))
def test_curves_are_monotonic_and_stay_in_range(seed: int, method: str, n: int) -> None:
    y, p = honest(n, seed=seed, heat=1.7, shift=-0.4)
    found = fitted(y, p, method).apply(np.linspace(0, 1, 1001))
    assert (np.diff(found) >= 0).all()
    assert found.min() >= 0
    assert found.max() <= 1


@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic", "auto"])
def test_a_fit_lowers_the_log_loss_on_fitted_and_new_rows(method: str) -> None:
    y, p = honest(2000, seed=4, heat=3.0, shift=0.5)
    found = fitted(y, p, method)
    assert found.log_loss_before is not None
    assert found.log_loss_after is not None
    assert found.log_loss_after < found.log_loss_before
    other, q = honest(2000, seed=5, heat=3.0, shift=0.5)
    assert loss(other, found.apply(q)) < loss(other, q)


def loss(y: Bools, p: Floats) -> float:
    return float(-np.log(np.where(y, p, 1 - p)).mean())


def test_auto_leaves_calibrated_probabilities_unchanged() -> None:
    y, p = honest(800, seed=6)
    assert fitted(y, p, "auto").kind == "none"


def test_auto_chooses_temperature_for_scaled_and_platt_for_shifted_log_odds() -> None:
    y, p = honest(1500, seed=7, heat=3.0)
    assert fitted(y, p, "auto").kind == "temperature"
    y, p = honest(1500, seed=8, heat=1.0, shift=2.0)
    assert fitted(y, p, "auto").kind == "platt"


def test_auto_chooses_isotonic_for_a_step_function() -> None:
    rng = np.random.default_rng(9)
    p = rng.random(3000)
    y = rng.random(3000) < np.where(p < 0.3, 0.02, np.where(p < 0.9, 0.5, 0.98))
    found = fitted(y, p, "auto")
    assert found.kind == "isotonic"
    assert found.reason.startswith("the simplest within one standard error")


@pytest.mark.parametrize(
    ("method", "rows", "reason"),
    [
        ("isotonic", 199, "isotonic cannot be fitted: it needs 200 rows and 50 of each class; here are 199"),
        ("auto", 49, "auto needs 50 rows and 10 of each class; here are 49"),
    ],
)
def test_too_few_rows_give_the_identity_with_a_reason(method: str, rows: int, reason: str) -> None:
    y, p = honest(rows, seed=10, heat=3.0)
    found = fitted(y, p, method)
    assert (found.kind, found.asked) == ("none", method)
    assert found.reason.startswith(reason)
    assert (found.apply(p) == p).all()


@pytest.mark.parametrize("method", ["temperature", "platt"])
def test_impossible_fits_give_the_identity_with_a_reason(method: str) -> None:
    y, p = honest(100, seed=11)
    opposite = fitted(y, 1 - p, method)
    assert opposite.kind == "none"
    assert "the probabilities say nothing of the labels, or the opposite" in opposite.reason
    assert "the rows are of one class" in fitted(np.ones(10, dtype=np.bool_), p[:10], method).reason
    assert fitted(y, np.full(100, 0.5), method).kind == "none"
    empty = np.zeros(0)
    assert fitted(empty.astype(np.bool_), empty, method).log_loss_before is None


def test_separable_classes_have_no_temperature_but_a_finite_platt() -> None:
    y = np.arange(40) % 2 == 0
    p = np.where(y, 0.7, 0.3)
    assert "no temperature is cold enough" in fitted(y, p, "temperature").reason
    found = fitted(y, p, "platt")
    assert found.apply(np.array([0.7]))[0] == pytest.approx(21 / 22, abs=1e-9)  # Platt's own target


@given(ROWS, st.sampled_from(METHODS))
def test_rows_without_a_probability_stay_undefined(scored: Scored, method: str) -> None:
    y = np.array([g == 1 for g, _ in scored])
    p = np.array([np.nan if q is None else q for _, q in scored])
    found = fitted(y, p, method)
    after = found.apply_to(as_rows(scored))
    assert np.isnan(after.probability).tolist() == [q is None for _, q in scored]
    assert found.rows == sum(q is not None for _, q in scored)


@pytest.mark.parametrize("method", METHODS)
def test_a_calibrator_reads_back_bit_for_bit(method: str) -> None:
    y, p = honest(300, seed=12, heat=2.0)
    found = fitted(y, p, method)
    again = Calibrator(**json.loads(json.dumps(dataclasses.asdict(found), allow_nan=False)))
    assert again == found
    assert (again.apply(p) == found.apply(p)).all()


def test_groups_stay_in_one_fold() -> None:
    """Repeated rows in several folds would favor a curve that memorizes them."""
    sample = draw(60, seed=13, apart=0.4)
    copies = np.repeat(np.arange(60), 10)
    y, p = sample.positive[copies], sample.probability[copies]
    config = CalibrationConfig(method="auto")
    groups = [f"g{i}" for i in copies]
    alone, grouped = calibrate(y, p, config), calibrate(y, p, config, groups)
    assert isotonic(y, p)
    of = [float(c.reason.rpartition("isotonic ")[2]) for c in (alone, grouped)]
    assert of[1] > of[0]


def test_confidence_is_the_distance_in_log_odds() -> None:
    found = confidence(np.array([0.5, 0.9, 0.2, np.nan]), 0.5)
    assert found == pytest.approx([0, logit(0.9), -logit(0.2), -1], abs=1e-12)
    assert confidence(np.array([0.2]), 0.8)[0] == pytest.approx(2 * logit(0.8))


def test_log_odds_of_0_and_1_are_finite() -> None:
    assert log_odds(np.array([0.0, 0.25, 1.0])) == pytest.approx(
        [np.log(1e-12), logit(0.25), -np.log(1e-12)], rel=1e-4
    )
    assert np.isnan(log_odds(np.array([np.nan]))).all()


def test_curves_are_computed_in_float64() -> None:
    single: Any = np.array([0.1, 0.7], dtype=np.float32)
    for kind, parameters in (
        ("none", {}),
        ("temperature", {"temperature": 3.0}),
        ("platt", {"slope": 2.0, "shift": 0.5}),
        ("isotonic", {"at": [0.0, 1.0], "to": [0.2, 0.6]}),
    ):
        found = curve(kind, parameters, single)
        assert found.dtype == np.float64
        assert (found == curve(kind, parameters, single.astype(np.float64))).all()
    assert curve("platt", {"slope": 2.0, "shift": 0.5}, single) == pytest.approx(
        expit(2 * logit(single.astype(np.float64)) + 0.5), abs=1e-12
    )


def test_the_identity_was_fitted_to_nothing() -> None:
    found = Calibrator.identity("why")
    assert (found.kind, found.rows, found.positive, found.reason, found.asked) == (
        "none",
        0,
        0,
        "why",
        "none",
    )
    assert (found.log_loss_before, found.log_loss_after, dict(found.parameters)) == (None, None, {})


def test_a_calibrator_records_what_it_was_fitted_to_and_what_it_gains() -> None:
    y, p = honest(300, seed=14, heat=2.0)
    p[:7] = np.nan
    found = fitted(y, p, "platt")
    assert (found.kind, found.asked, found.reason) == ("platt", "platt", "as asked")
    assert (found.rows, found.positive) == (293, int(y[7:].sum()))
    assert found.log_loss_before == pytest.approx(loss(y[7:], p[7:]))
    assert found.log_loss_after == pytest.approx(loss(y[7:], found.apply(p[7:])))
    assert fitted(y, p, "none").reason == "not asked for"


@pytest.mark.parametrize(
    ("method", "rows", "positive", "kind"),
    [
        ("isotonic", 200, 50, "isotonic"),
        ("isotonic", 199, 50, "none"),
        ("isotonic", 200, 49, "none"),
        ("auto", 50, 10, "any"),
        ("auto", 49, 10, "none"),
        ("auto", 50, 9, "none"),
        ("auto", 50, 41, "none"),
    ],
)
def test_the_fewest_rows_that_a_curve_needs(method: str, rows: int, positive: int, kind: str) -> None:
    y = np.arange(rows) < positive
    rng = np.random.default_rng(15)
    found = fitted(y, np.clip(rng.normal(0.3 + 0.3 * y, 0.2), 0.01, 0.99), method)
    if kind == "any":
        assert found.reason.startswith("the simplest within one standard error")
    else:
        assert found.kind == kind
        assert ("needs" in found.reason) is (kind == "none")
        if kind == "none":
            assert found.reason.endswith(f"here are {rows} and {min(positive, rows - positive)}")


def test_isotonic_needs_a_curve_that_rises() -> None:
    y = np.arange(200) < 100
    assert "the probabilities say nothing" in fitted(y, np.full(200, 0.3), "isotonic").reason
    assert "the probabilities say nothing" in fitted(y, np.where(y, 0.2, 0.8), "isotonic").reason


def test_a_temperature_is_between_a_hundredth_and_a_hundred() -> None:
    y = np.arange(100) % 2 == 0
    hardly = np.where(y, 0.5001, 0.5)
    assert fitted(y, hardly, "temperature").kind == "none"
    assert "no temperature is cold enough" in fitted(y, hardly, "temperature").reason
    mixed = np.where(np.arange(100) < 60, y, ~y)
    p = np.where(mixed, 1 - 1e-9, 1e-9)
    assert fitted(y, p, "temperature").parameters["temperature"] == pytest.approx(
        logit(1 - 1e-9) / logit(0.6), rel=1e-6
    )


def test_auto_compares_held_out_log_losses_of_folds_that_the_seed_deals() -> None:
    """By dealing the folds again: within each class, one row after another to each of five folds."""
    y, p = honest(120, seed=16, heat=2.0)
    found = calibrate(y, p, CalibrationConfig(method="auto"), seed=4)
    rng = np.random.default_rng(4)
    fold = np.empty(120)
    fold[y], fold[~y] = (rng.permutation(int(n)) % 5 for n in (y.sum(), (~y).sum()))
    listed = []
    for kind, fit in (("none", lambda y, p: {}), ("temperature", temperature), ("platt", platt)):
        losses = np.concatenate(
            [
                -np.log(np.where(y[held], q := curve(kind, fit(y[~held], p[~held]), p[held]), 1 - q))
                for held in (fold == k for k in range(5))
            ]
        )
        listed.append(f"{kind} {losses.mean():.4f}")
    assert found.reason.endswith(": " + ", ".join(listed))


def test_auto_skips_a_curve_that_cannot_be_fitted_in_a_fold() -> None:
    y, p = honest(60, seed=17, heat=2.0)
    found = fitted(y, 1 - p, "auto")
    assert found.kind == "none"
    assert "temperature" not in found.reason
    assert "platt" not in found.reason
