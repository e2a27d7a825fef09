"""Manifests and pointer: the predecessor's fields, in strict JSON."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from core.errors import DataError, StoreError
from core.evaluation.decision import Decision
from core.export.run_files import Pointer, SplitMetrics, file_name, metrics_name, read_start
from core.intervals import Interval
from core.store import Store
from tests.core.export.making import metrics

AT = "2026-01-02T03:04:05+00:00"
OF: dict[str, Any] = {
    "checkpoint_path": "runs/night/best",
    "dataset_fingerprint": "d" * 64,
    "config_fingerprint": "c" * 64,
    "decision_threshold_rule": "val_max_macro_f1",
    "decision_threshold": 0.4,
    "decision_threshold_reason": "by definition",
    "calibration": "none",
}
DECISION = ["decision_threshold_rule", "decision_threshold", "decision_threshold_reason", "calibration"]
FINGERPRINTS = ["dataset_fingerprint", "config_fingerprint"]
COMMON = ["created_at", "checkpoint_path", "split", *FINGERPRINTS, *DECISION]
POINTER = {"run_dir": "runs/a", "best_step": 4, "engine": "local", "base_digest": "b", "prompts_digest": "p"}
INTERVALS = {"auroc": Interval(0.9, 0.8, 0.95, "bootstrap")}


def test_metrics_of_a_split_keep_the_fields_of_the_predecessor() -> None:
    found: dict[str, Any] = {"metrics": metrics(90), "intervals": INTERVALS, "predictions_path": "test.json"}
    written = SplitMetrics(created_at=AT, split="test", n=100, **found, **OF).to_json()
    assert list(written) == [*COMMON, "n", "predictions_path", "metrics", "intervals"]
    assert (written["n"], written["decision_threshold"], written["calibration"]) == (100, 0.4, "none")
    assert written["metrics"] == metrics(90).to_json()
    assert written["intervals"] == {"auroc": dataclasses.asdict(INTERVALS["auroc"])}


def test_label_only_metrics_have_no_predictions_path() -> None:
    written = SplitMetrics(
        created_at=AT, split="val", n=100, metrics=metrics(90), intervals={}, **OF
    ).to_json()
    assert list(written) == [*COMMON, "n", "metrics", "intervals"]


def test_the_pointer_begins_with_the_fields_of_the_predecessor() -> None:
    pointer = Pointer(
        saved_at="2026-01-02T03:04:05+00:00",
        run_name="night",
        final_model_path="f",
        best_model_path="b",
        resume_state_path="s",
        best_step=10,
        threshold=0.4,
        metrics_path="m",
        run_dir="runs/night",
        engine="local",
        base_model="package://a/b",
        base_digest="d",
        target="label_first",
        prompts_digest="p",
        threshold_reason="largest macro-F1 on 9 rows",
        calibrator=Decision.by_definition(0.4).calibrator,
        decision_path="objects/decide/k/w/decision.json",
    )
    kept = ["saved_at", "run_name", "final_model_path", "best_model_path", "resume_state_path"]
    assert list(pointer.to_json())[:5] == kept
    assert json.loads(json.dumps(pointer.to_json()))["threshold"] == 0.4


@pytest.mark.parametrize("label_only", [False, True])
def test_the_modes_have_files_of_their_own(label_only: bool) -> None:
    end = "_label_only.json" if label_only else ".json"
    assert file_name("manifest", label_only=label_only) == f"manifest{end}"
    assert metrics_name("test", label_only=label_only) == f"metrics_test{end}"


def test_the_start_of_reinforcement_is_read_from_any_pointer_and_damage_is_named(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    assert read_start(store, "a") is None
    store.backend.write("model/a.json", json.dumps({**POINTER, "saved_at": "now"}).encode())
    found = read_start(store, "a")
    assert found is not None
    assert (found.run_dir, found.best_step, found.phase) == ("runs/a", 4, None)
    store.backend.write("model/a.json", json.dumps({**POINTER, "best_step": "four"}).encode())
    with pytest.raises(DataError, match=r"model/a\.json: best_step"):
        read_start(store, "a")
    store.backend.write("model/a.json", b"[")
    with pytest.raises(StoreError, match=r"model/a\.json is damaged"):
        read_start(store, "a")
