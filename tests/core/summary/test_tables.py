"""The predecessor's three tables, character by character, and the tidy table."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from core.results import StudentSetup
from core.store import Store
from core.store.run_view import CodeVersion
from core.summary.run_records import Mode
from core.summary.summarize import four_decimals, method_and_id, save, summarize_runs
from tests.core.summary.making import metrics_file, put, result, write_facts, write_run

EXPECTED = Path(__file__).parent / "expected.csv"


def test_tables_equal_the_expected_file(store: Store) -> None:
    """On disk and S3, with dates, commas and quotes in names, and with missing splits."""
    write_run(store, "sft_20260102_030405", macro_f1=0.77775)
    write_run(store, "b_20260101_000000", splits=["test"], modes=["reasoning"], macro_f1=None)
    write_run(store, 'a,"b"_x', splits=["test"], modes=["label_only"])
    write_run(store, "plain", splits=["train"], modes=["reasoning"])
    found, text = summarize_runs(store, "both", "csv")
    assert text == EXPECTED.read_text(encoding="utf-8")
    assert found.skipped == []


@pytest.mark.parametrize("root", ["disk"], indirect=True)
@pytest.mark.parametrize("mode", ["reasoning", "label_only"])
def test_a_mode_selects_its_rows(store: Store, mode: Mode) -> None:
    write_run(store, "a")
    _, text = summarize_runs(store, mode, "csv")
    rows = [row for row in csv.reader(io.StringIO(text)) if row and row[0] == "a"]
    assert [row[3] for row in rows] == [mode] * 3


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.12345, "0.1235"),
        (0.00005, "0.0001"),
        (2.5, "2.5000"),
        (-0.12345, "-0.1235"),
        (1e-300, "0.0000"),
        (1e300, f"{10**300}.0000"),
        (7, "7"),
        (None, ""),
    ],
)
def test_floats_have_four_decimals_halves_up(value: float | None, text: str) -> None:
    assert four_decimals(value) == text


@pytest.mark.parametrize(
    ("run", "method", "run_id"),
    [
        ("two_words_20260102_030405", "two_words", "20260102_030405"),
        ("quick_start-seed2", "quick", "start-seed2"),
        ("a_2026_030405", "a_2026", "030405"),
        ("plain", "plain", ""),
    ],
)
def test_a_runs_name_is_method_and_id(run: str, method: str, run_id: str) -> None:
    assert method_and_id(run) == (method, run_id)


def table(store: Store) -> list[dict[str, str]]:
    _, text = summarize_runs(store, "both", "tidy")
    return list(csv.DictReader(io.StringIO(text)))


def test_a_row_has_metrics_intervals_cost_models_data_and_commit(store: Store) -> None:
    content = metrics_file("a")
    intervals = {
        "macro_f1": {"value": 0.9, "low": 0.8, "high": 0.95, "method": "bootstrap"},
        "f1": {"low": 0.5, "high": 0.75},
        "auroc": {"value": None, "low": None, "high": None, "undefined": "one class"},
        "accuracy": None,
    }
    put(store, "runs/a/student_phase/metrics_test.json", {**content, "intervals": intervals})
    write_facts(store, "a")
    (row,) = table(store)
    assert {name: text for name, text in row.items() if text} == {
        "run": "a",
        "split": "test",
        "mode": "reasoning",
        "created_at": "2026-11-20T10:00:00+00:00",
        "n": "10",
        "macro_f1": "0.9",
        "macro_f1_low": "0.8",
        "macro_f1_high": "0.95",
        "accuracy": "0.8",
        "balanced_accuracy": "0.75",
        "F1": "0.6666666666666666",
        "F1_low": "0.5",
        "F1_high": "0.75",
        "precision": "1.0",
        "recall": "0.5",
        "mcc": "0.12345",
        "auprc": "0.5",
        "log_loss": "0.25",
        "brier": "0.125",
        "invalid_label_rate": "0.0",
        "tp": "2",
        "fp": "0",
        "fn": "2",
        "tn": "6",
        "n_positive": "4",
        "outside_mass": "0.001",
        "decision_threshold": "0.5",
        "engine": "local",
        "base_model": "some/model-8B",
        "target": "label_first",
        "teacher_kind": "openai",
        "teacher_model": "big, model",
        "best_step": "40",
        "usd": "1.5",
        "teacher_tokens": "1200",
        "trained_tokens": "10",
        "prefilled_tokens": "20",
        "sampled_tokens": "30",
        "seconds": "20.5",
        "version": "0.1.0",
        "commit": "c" * 40,
        "data": "data1",
        "measurement": "measured1",
        "checkpoint_path": "objects/train/a/adapter",
    }


def test_rows_are_sorted_by_run_split_and_mode_and_missing_values_are_empty(store: Store) -> None:
    write_run(store, "b", splits=["test", "train"])
    write_run(store, "a", splits=["val"], modes=["label_only"])
    rows = table(store)
    assert [(r["run"], r["split"], r["mode"]) for r in rows] == [
        ("a", "val", "label_only"),
        ("b", "train", "reasoning"),
        ("b", "train", "label_only"),
        ("b", "test", "reasoning"),
        ("b", "test", "label_only"),
    ]
    assert {r["usd"] + r["commit"] + r["engine"] + r["macro_f1_low"] for r in rows} == {""}


@pytest.mark.parametrize("root", ["disk"], indirect=True)
def test_student_and_code_are_read_from_the_result(store: Store) -> None:
    write_run(store, "a", splits=["test"], modes=["reasoning"])
    student = StudentSetup(engine="tinker", base_model="m", target="label_only")
    found = result("a").model_copy(update={"student": student, "made_by": CodeVersion(version="0.2.0")})
    put(store, "runs/a/run_summary.json", found.to_json())
    (row,) = table(store)
    assert (row["engine"], row["base_model"], row["target"]) == ("tinker", "m", "label_only")
    assert (row["version"], row["commit"]) == ("0.2.0", "")


@pytest.mark.parametrize("root", ["disk"], indirect=True)
def test_a_registered_metric_has_columns_in_the_tidy_table(store: Store) -> None:
    write_run(store, "a", splits=["test"], modes=["reasoning"])
    content = metrics_file("b")
    content["metrics"]["specificity"] = 0.75
    content["intervals"] = {"specificity": {"low": 0.5, "high": 1.0}}
    put(store, "runs/b/student_phase/metrics_test.json", content)
    found = [(r["specificity"], r["specificity_low"], r["specificity_high"]) for r in table(store)]
    assert found == [("", "", ""), ("0.75", "0.5", "1.0")]


def test_half_a_surrogate_pair_is_written_as_its_escape(tmp_path: Path) -> None:
    assert save("a\ud800b", tmp_path / "t.csv").read_bytes() == b"a\\ud800b"
