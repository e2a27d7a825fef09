"""Metrics equal scikit-learn's where it defines them, and are null with a reason elsewhere."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from sklearn import metrics as sk

from core.config import METRICS, metric, metrics_code
from core.errors import StageError
from core.evaluation.bootstrap import Judged, bootstrap
from core.evaluation.metrics import Confusion, Counts, Metrics, Ranks, better, compute, lower_is_better, ratio
from core.evaluation.predictions import Floats
from tests.core.evaluation.scored import Row, counts, predictions


def row(gold: int, probability: float | None, *, outside: float = 0.0, name: str = "r") -> Row:
    return Row(name, gold, probability, outside)


PROBABILITY = st.one_of(st.none(), st.floats(0, 1), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))
ROWS = st.lists(
    st.builds(row, st.integers(0, 1), PROBABILITY, outside=st.floats(0, 1)), min_size=0, max_size=40
)


def has_both(rows: Sequence[Row]) -> bool:
    return len({r.gold for r in rows}) == 2


@given(ROWS.filter(has_both), st.floats(0, 1))
def test_defined_metrics_equal_scikit_learn(rows: list[Row], threshold: float) -> None:
    m = compute(predictions(rows), threshold)
    gold = [r.gold for r in rows]
    said = [int(r.probability is not None and r.probability >= threshold) for r in rows]
    p = [0.5 if r.probability is None else r.probability for r in rows]
    expected = {
        "accuracy": sk.accuracy_score(gold, said),
        "macro_f1": sk.f1_score(gold, said, average="macro", zero_division=0),
        "f1": sk.f1_score(gold, said, zero_division=0),
        "balanced_accuracy": sk.balanced_accuracy_score(gold, said),
        "recall": sk.recall_score(gold, said),
        "auroc": sk.roc_auc_score(gold, p),
        "auprc": sk.average_precision_score(gold, p),
        "brier": sk.brier_score_loss(gold, p),
        "log_loss": -sum(math.log(max(q if g else 1 - q, 1e-12)) for g, q in zip(gold, p, strict=True))
        / len(gold),
    }
    if len(set(said)) == 2:
        expected["mcc"] = sk.matthews_corrcoef(gold, said)
    if any(said):
        expected["precision"] = sk.precision_score(gold, said)
    for name, wanted in expected.items():
        assert m[name] == pytest.approx(wanted, abs=1e-12), name
    tp, fp, fn, tn = counts(m)
    assert [[tn, fp], [fn, tp]] == sk.confusion_matrix(gold, said, labels=[0, 1]).tolist()


@given(ROWS, st.floats(0, 1))
def test_exactly_the_metrics_with_a_reason_are_null(rows: list[Row], threshold: float) -> None:
    written = compute(predictions(rows), threshold).to_json()
    text = json.dumps(written, allow_nan=False)
    assert {k for k, v in written.items() if v is None} == set(written["undefined"])
    assert Metrics.from_json(json.loads(text)) == compute(predictions(rows), threshold)


@given(ROWS, st.floats(0, 1))
def test_confusion_counts_add_up_to_the_rows(rows: list[Row], threshold: float) -> None:
    m = compute(predictions(rows), threshold)
    found = [m[name] for name in ("tp", "fp", "fn", "tn", "n", "n_positive")]
    assert all(type(k) is int for k in found)
    tp, fp, fn, tn, n, positive = (k or 0 for k in found)
    assert tp + fp + fn + tn == n == len(rows)
    assert tp + fn == positive


@given(ROWS)
def test_without_a_threshold_only_metrics_of_probabilities_are_defined(
    rows: list[Row],
) -> None:
    without, at = compute(predictions(rows), None, "nobody chose"), compute(predictions(rows), 0.5)
    counted = ("accuracy", "balanced_accuracy", "macro_f1", "F1", "mcc", "precision", "recall")
    assert all(without.undefined[name] == "nobody chose" for name in counted)
    assert (without["tp"], without["decision_threshold"]) == (None, None)
    for name in ("log_loss", "brier", "auroc", "auprc", "invalid_label_rate", "n", "n_positive"):
        assert without[name] == at[name]
    assert Metrics.from_json(json.loads(json.dumps(without.to_json(), allow_nan=False))) == without


def test_a_table_computed_by_hand() -> None:
    rows = [
        row(1, 0.9, outside=0.1),
        row(1, 0.4),
        row(0, 0.6, outside=0.3),
        row(0, 0.2),
        row(1, None, outside=1.0),
    ]
    m = compute(predictions(rows), 0.5)
    assert counts(m) == (1, 1, 2, 1)
    assert m["accuracy"] == pytest.approx(2 / 5)
    assert m["precision"] == pytest.approx(1 / 2)
    assert m["recall"] == pytest.approx(1 / 3)
    assert m["f1"] == pytest.approx(2 / 5)
    assert m["macro_f1"] == pytest.approx((2 / 5 + 2 / 5) / 2)
    assert m["balanced_accuracy"] == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert m["mcc"] == pytest.approx((1 * 1 - 1 * 2) / math.sqrt(2 * 3 * 2 * 3))
    assert m["auroc"] == pytest.approx(3 / 6 + 1 / 6)  # .9 beats both, .4 and .5 beat .2 only: 4 of 6
    assert m["brier"] == pytest.approx((0.01 + 0.36 + 0.36 + 0.04 + 0.25) / 5)
    assert m["log_loss"] == pytest.approx(-sum(map(math.log, (0.9, 0.4, 0.4, 0.8, 0.5))) / 5)
    assert m["loss"] == m["cls_loss"] == m["log_loss"]
    assert m["invalid_label_rate"] == pytest.approx(1 / 5)
    assert m["outside_mass"] == pytest.approx(1.4 / 5)


def test_a_row_without_a_probability_is_predicted_negative_even_at_threshold_zero() -> None:
    m = compute(predictions([row(1, None), row(0, 0.0)]), 0.0)
    assert counts(m) == (0, 1, 1, 0)


def test_an_invalid_row_with_a_probability_keeps_it_and_is_counted() -> None:
    m = compute(predictions([row(1, 0.9, outside=0.8), row(0, 0.1)]), 0.5)
    assert m["accuracy"] == 1
    assert m["invalid_label_rate"] == pytest.approx(0.5)


def test_a_probability_on_the_threshold_is_positive() -> None:
    assert counts(compute(predictions([row(1, 0.3), row(0, 0.2)]), 0.3)) == (1, 0, 0, 1)


def test_a_certain_error_costs_the_clipped_loss_not_infinity() -> None:
    assert compute(predictions([row(1, 0.0)]), 0.5)["log_loss"] == pytest.approx(-math.log(1e-12))


def test_rows_of_one_class_have_accuracy_and_reasons_for_the_rest() -> None:
    m = compute(predictions([row(0, 0.2), row(0, 0.1)]), 0.5)
    assert m["accuracy"] == 1
    assert set(m.undefined) == {
        "recall",
        "precision",
        "F1",
        "mcc",
        "macro_f1",
        "balanced_accuracy",
        "auroc",
        "auprc",
    }
    assert m.undefined["auroc"] == "the rows are of one class"
    assert m.undefined["macro_f1"] == "a label that no row has and none was predicted"


@pytest.mark.parametrize("bad", [float("inf"), -0.1, 1.1])
def test_an_impossible_probability_is_refused_with_its_row(bad: float) -> None:
    with pytest.raises(StageError, match="scored row spam-7: probability"):
        compute(predictions([row(1, bad, name="spam-7")]), 0.5)


def test_the_field_names_of_the_predecessor_are_kept() -> None:
    written = compute(predictions([row(1, 0.9), row(0, 0.1)]), 0.5).to_json()
    kept = ["loss", "cls_loss", "accuracy", "macro_f1", "auroc", "auprc", "invalid_label_rate"]
    kept += ["decision_threshold", "balanced_accuracy", "F1", "mcc", "precision", "recall"]
    kept += ["tp", "fp", "fn", "tn"]
    assert list(written)[: len(kept)] == kept


def test_every_metric_of_the_config_has_a_value_and_a_direction() -> None:
    m = compute(predictions([row(1, 0.9), row(0, 0.1)]), 0.5)
    for name in METRICS:
        assert m[name] is not None
        smaller_wins = name in ("log_loss", "brier")
        assert better(name, 0.1, 0.2) is smaller_wins
        assert better(name, 0.2, 0.1) is not smaller_wins
        assert better(name, 0.1, None)
        assert not better(name, None, 0.1)
        assert not better(name, None, None)
        assert not better(name, 0.1, 0.1)
    with pytest.raises(KeyError, match="no metric 'auc'"):
        m["auc"]


@pytest.fixture
def specificity() -> Iterator[str]:
    """A metric of another package, registered for one test."""

    @metric("specificity", better="higher", of="counts", undefined="no row is negative", binary=True)
    def specificity(k: Counts) -> Floats:
        return ratio(k.tn, k.tn + k.fp)

    yield "specificity"
    METRICS.remove("specificity")


def test_a_registered_metric_is_in_files_bootstrap_and_cache_keys(specificity: str) -> None:
    rows = [row(1, 0.9), row(0, 0.6), row(0, 0.1)]
    assert compute(predictions(rows), 0.5)[specificity] == 0.5
    written = compute(predictions(rows), 0.5).to_json()
    assert written[specificity] == 0.5
    assert Metrics.from_json(written)[specificity] == 0.5
    c = predictions(rows)
    found = bootstrap(c.positive, [Judged.of(c, 0.5)], resamples=20)
    assert found.point(0, specificity) == 0.5
    assert np.isin(found.of(0, specificity), [0, 0.5, 1]).all()
    assert list(metrics_code()["metrics_code"]) == [specificity]


def test_importing_metrics_does_not_import_matplotlib() -> None:
    code = "import sys, core.evaluation.metrics; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


COUNTS = st.tuples(*[st.integers(0, 6)] * 4)


def rows_of(tp: int, fp: int, fn: int, tn: int) -> list[Row]:
    kinds = [(1, 0.9)] * tp + [(0, 0.9)] * fp + [(1, 0.1)] * fn + [(0, 0.1)] * tn
    return [Row("r", gold, p) for gold, p in kinds]


@given(st.lists(COUNTS, min_size=1, max_size=5))
def test_vectorized_metrics_equal_those_of_each_table(tables: list[tuple[int, ...]]) -> None:
    tp, fp, fn, tn = (np.array(column) for column in zip(*tables, strict=True))
    many = Counts.of(tp, fp, tp + fn, fp + tn)
    each = [compute(predictions(rows_of(*table)), 0.5) for table in tables]
    for name, of in METRICS.items():
        if of.of != "counts":
            continue
        for found, one in zip(of.function(many), each, strict=True):
            wanted = one[name]
            assert math.isnan(found) if wanted is None else math.isclose(found, wanted, abs_tol=1e-12), name


def test_a_metric_of_ranks_without_a_function_of_its_own_for_points_is_computed_from_ranks() -> None:
    @metric("area", better="higher", of="ranks", undefined="the rows are of one class")
    def area(r: Ranks) -> Floats:
        return ratio(r.pairs - r.disorder / 2, r.pairs)

    @metric("average", better="higher", of="ranks")
    def average(r: Ranks) -> Floats:
        return ratio(r.precision_sum, r.positives)

    try:
        rows = [row(1, 0.9), row(0, 0.9), row(1, 0.4), row(0, 0.2), row(0, 0.7), row(1, None)]
        m = compute(predictions(rows), 0.5)
        assert m["area"] == pytest.approx(m["auroc"], abs=1e-12)
        assert m["average"] == pytest.approx(m["auprc"], abs=1e-12)
        assert compute(predictions([row(1, 0.9)]), 0.5).undefined["area"] == "the rows are of one class"
    finally:
        METRICS.remove("area")
        METRICS.remove("average")


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
def test_a_threshold_is_finite(bad: float) -> None:
    with pytest.raises(ValueError, match="a threshold is a finite number"):
        compute(predictions([row(1, 0.9)]), bad)


def test_the_direction_of_a_metric_is_known_by_its_names_in_files_too() -> None:
    lower = ("log_loss", "brier", "loss", "cls_loss", "invalid_label_rate", "outside_mass")
    assert all(lower_is_better(name) for name in lower)
    assert not any(lower_is_better(name) for name in ("accuracy", "auroc", "F1", "n", "tp"))


def test_an_improvement_is_larger_than_its_least_size() -> None:
    assert better("accuracy", 0.75, 0.5, by=0.125)
    assert not better("accuracy", 0.75, 0.5, by=0.25)
    assert not better("accuracy", 0.5, 0.75, by=0.125)
    assert better("log_loss", 0.5, 0.75, by=0.125)
    assert not better("log_loss", 0.5, 0.75, by=0.25)
    assert not better("log_loss", 0.75, 0.5, by=0.125)
    assert better("accuracy", 0.0, None, by=9.0)


def test_rows_and_invalid_labels_are_read_from_the_metrics() -> None:
    m = compute(predictions([row(1, None), row(0, 0.1), row(0, 0.2), row(1, 0.9)]), 0.5)
    assert (m.rows, m.invalid_label_rate, m["n_positive"]) == (4, 0.25, 2)
    none = compute(predictions([]), 0.5)
    assert (none.rows, none.invalid_label_rate) == (0, None)
    assert set(none.undefined.values()) >= {"no rows"}
    for name in ("loss", "cls_loss", "invalid_label_rate", "outside_mass", "log_loss", "brier", "auroc"):
        assert none.undefined[name] == "no rows"


class Holder(BaseModel):
    """A record with metrics."""

    metrics: Metrics


def test_metrics_in_a_record_have_the_form_of_their_file() -> None:
    m = compute(predictions([row(1, 0.9), row(0, 0.1)]), 0.5)
    assert Holder(metrics=m).metrics is m
    written = json.loads(Holder(metrics=m).model_dump_json())["metrics"]
    assert written == json.loads(json.dumps(m.to_json()))
    assert Holder.model_validate({"metrics": written}).metrics == m


@pytest.mark.parametrize(
    "name", ["tp", "fp", "fn", "tn", "n", "n_positive", "decision_threshold", "undefined"]
)
def test_a_file_that_lacks_a_count_is_not_metrics(name: str) -> None:
    written = compute(predictions([row(1, 0.9), row(0, 0.1)]), 0.5).to_json()
    del written[name]
    with pytest.raises(KeyError, match=name):
        Metrics.from_json(written)
    with pytest.raises(ValidationError, match=f"not metrics, KeyError: '{name}'"):
        Holder.model_validate({"metrics": written})
    with pytest.raises(ValidationError, match="not metrics"):
        Holder.model_validate({"metrics": 5})


def test_a_metric_that_was_not_registered_at_the_measurement_is_undefined() -> None:
    written = compute(predictions([row(1, 0.9), row(0, 0.1)]), 0.5).to_json()
    del written["mcc"]
    assert Metrics.from_json(written)["mcc"] is None
    assert Metrics.from_json(written).to_json()["mcc"] is None


def test_the_order_of_numbers_in_files_is_fixed() -> None:
    written = compute(predictions([row(1, 0.9), row(0, 0.1)]), 0.5).to_json()
    assert list(written)[17:] == ["log_loss", "brier", "n", "n_positive", "outside_mass", "undefined"]
    assert list(written["undefined"]) == []


def test_counts_are_taken_at_a_place_and_of_rows() -> None:
    many = Counts.of([3, 1], [2, 0], [4, 4], 5)
    assert [field.tolist() for field in (many.tp, many.fp, many.fn, many.tn)] == [
        [3, 1],
        [2, 0],
        [1, 3],
        [3, 5],
    ]
    one = many.at(1)
    assert [float(k) for k in (one.tp, one.fp, one.fn, one.tn)] == [1, 0, 3, 5]
    positive, predicted = np.array([1, 1, 1, 0, 0], bool), np.array([1, 1, 0, 1, 0], bool)
    assert Confusion.of(positive, predicted) == Confusion(tp=2, fp=1, fn=1, tn=1)


def test_reports_call_every_metric_by_its_title_and_say_why_it_is_undefined() -> None:
    assert {name: each.title for name, each in METRICS.items()} == {
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
    negative = compute(predictions([row(0, 0.2), row(0, 0.1)]), 0.5).undefined
    assert negative["precision"] == "no row was predicted positive"
    assert negative["recall"] == "no row is positive"
    assert negative["F1"] == "no row is, or was predicted, positive"
    assert negative["mcc"] == "one class only, in gold or predictions"
    assert negative["auprc"] == negative["balanced_accuracy"] == "the rows are of one class"
