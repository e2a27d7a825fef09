"""Manifests and pointer: the predecessor's fields, in strict JSON."""

from __future__ import annotations

import dataclasses
import json

from core.evaluation.decision import by_definition
from core.export.manifests import (
    Measured,
    Output,
    Pointer,
    manifest,
    manifest_name,
    metrics_name,
    split_metrics,
)
from core.intervals import Interval
from core.records import SplitName
from tests.core.export.making import metrics

OF = Measured(
    "2026-01-02T03:04:05+00:00",
    "night",
    "runs/night/best",
    "d" * 64,
    "c" * 64,
    by_definition(0.4),
    "val_max_macro_f1",
)
DECISION = ["decision_threshold_rule", "decision_threshold", "decision_threshold_reason", "calibration"]
FINGERPRINTS = ["dataset_fingerprint", "config_fingerprint"]
COMMON = ["created_at", "checkpoint_path", "split", *FINGERPRINTS, *DECISION]
INTERVALS = {"auroc": Interval(0.9, 0.8, 0.95, "bootstrap")}


def test_metrics_of_a_split_keep_the_predecessors_fields() -> None:
    written = split_metrics(OF, "test", metrics(90), INTERVALS, "test.json").to_json()
    assert list(written) == [*COMMON, "n", "predictions_path", "metrics", "intervals"]
    assert (written["n"], written["decision_threshold"], written["calibration"]) == (100, 0.4, "none")
    assert written["metrics"] == metrics(90).to_json()
    assert written["intervals"] == {"auroc": dataclasses.asdict(INTERVALS["auroc"])}


def test_label_only_metrics_name_no_predictions() -> None:
    written = split_metrics(OF, "val", metrics(90), {}).to_json()
    assert list(written) == [*COMMON, "n", "metrics", "intervals"]
    assert metrics_name("val", label_only=True) == "metrics_val_label_only.json"


def test_manifests_keep_the_predecessors_fields() -> None:
    outputs: dict[SplitName, Output] = {
        "test": Output(metrics_path="metrics_test.json", predictions_path="test.json", reused=True),
        "val": Output(reused=False, metrics_path="metrics_val.json"),
    }
    written = manifest(OF, outputs).to_json()
    head = ["generated_at", "run_name", "checkpoint_path", *FINGERPRINTS]
    assert list(written) == [*head, *DECISION, "outputs"]
    assert (written["decision_threshold_rule"], written["decision_threshold"]) == ("val_max_macro_f1", 0.4)
    assert written["outputs"] == {
        "test": {"reused": True, "predictions_path": "test.json", "metrics_path": "metrics_test.json"},
        "val": {"reused": False, "metrics_path": "metrics_val.json"},
    }
    assert manifest_name(label_only=True) == "manifest_label_only.json"


def test_the_pointer_keeps_the_predecessors_fields_first() -> None:
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
        calibrator=by_definition(0.4).calibrator,
        decision_path="objects/decide/k/w/decision.json",
    )
    kept = ["saved_at", "run_name", "final_model_path", "best_model_path", "resume_state_path"]
    assert list(pointer.to_json())[:5] == kept
    assert json.loads(json.dumps(pointer.to_json()))["threshold"] == 0.4
