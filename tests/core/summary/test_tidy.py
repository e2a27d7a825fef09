"""A row a run, split and mode, with all that is known of the run."""

from __future__ import annotations

import csv
import io

from core.store.objects import Store
from core.summary.output import encoded, summarise
from tests.core.summary.making import metrics_file, put, write_facts, write_run


def table(store: Store) -> list[dict[str, str]]:
    _, text = summarise(store, "both", "tidy")
    return list(csv.DictReader(io.StringIO(text)))


def test_a_row_holds_metrics_intervals_cost_models_data_and_commit(store: Store) -> None:
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


def test_rows_go_by_run_split_and_mode_and_what_is_not_written_is_empty(store: Store) -> None:
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


def test_intervals_may_stand_in_an_analysis_of_the_split(store: Store) -> None:
    write_run(store, "a", splits=["val", "test"])
    scorers = {
        "student": {"title": "S", "intervals": {"macro_f1": {"value": 0.9, "low": 0.7, "high": 0.95}}},
        "label_only": {"title": "L", "intervals": {"macro_f1": {"value": 0.9, "low": 0.6, "high": 0.9}}},
        "tfidf": {"title": "T", "intervals": {"macro_f1": {"value": 0.9, "low": 0.1, "high": 0.2}}},
    }
    put(store, "runs/a/analysis.json", {"split": "test", "rows": 10, "scorers": scorers})
    found = [(row["split"], row["mode"], row["macro_f1_low"]) for row in table(store)]
    assert found == [
        ("val", "reasoning", ""),
        ("val", "label_only", ""),
        ("test", "reasoning", "0.7"),
        ("test", "label_only", "0.6"),
    ]


def test_half_a_surrogate_pair_is_written_as_its_escape() -> None:
    assert encoded("a\ud800b") == b"a\\ud800b"
