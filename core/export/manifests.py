"""The small JSON files beside the predictions: metrics of each split, and the export's manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.evaluation.decision import Decision
from core.evaluation.metrics import Metrics
from core.records import SplitName


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """What the numbers depend on: digests of the data and of the config."""

    dataset: str
    config: str

    def to_json(self) -> dict[str, str]:
        return {"dataset_fingerprint": self.dataset, "config_fingerprint": self.config}


@dataclass(frozen=True, slots=True)
class Measured:
    """Which checkpoint was measured, when, on what. `created_at` is ISO 8601."""

    created_at: str
    run_name: str
    checkpoint_path: str
    fingerprints: Fingerprints
    decision: Decision
    """What was frozen on val, and the name of the rule by which the threshold was chosen."""
    rule: str


@dataclass(frozen=True, slots=True)
class Output:
    """What one split left; `reused` where an earlier export already had it."""

    metrics_path: str
    predictions_path: str | None = None
    reused: bool = False

    def to_json(self) -> dict[str, Any]:
        paths = {} if self.predictions_path is None else {"predictions_path": self.predictions_path}
        return {"reused": self.reused, **paths, "metrics_path": self.metrics_path}


def metrics_name(split: SplitName, *, label_only: bool = False) -> str:
    """The file that holds a split's metrics."""
    return f"metrics_{split}{'_label_only' if label_only else ''}.json"


def manifest_name(*, label_only: bool = False) -> str:
    """The file that names all outputs of an export."""
    return f"manifest{'_label_only' if label_only else ''}.json"


def decision_name(*, label_only: bool = False) -> str:
    """The file that holds calibration and threshold, how they were fitted, and how sure they are."""
    return f"decision{'_label_only' if label_only else ''}.json"


def split_metrics(
    of: Measured,
    split: SplitName,
    metrics: Metrics,
    intervals: Mapping[str, Any],
    predictions_path: str | None = None,
) -> dict[str, Any]:
    """`metrics_{split}.json`; in the label-only mode no predictions are written."""
    paths = {} if predictions_path is None else {"predictions_path": predictions_path}
    return {
        "created_at": of.created_at,
        "checkpoint_path": of.checkpoint_path,
        "split": split,
        **of.fingerprints.to_json(),
        **_decision(of),
        "n": metrics.rows,
        **paths,
        "metrics": metrics.to_json(),
        "intervals": dict(intervals),
    }


def manifest(of: Measured, outputs: Mapping[SplitName, Output]) -> dict[str, Any]:
    """`manifest.json`, and of the label-only mode `manifest_label_only.json`."""
    return {
        "generated_at": of.created_at,
        "run_name": of.run_name,
        "checkpoint_path": of.checkpoint_path,
        **of.fingerprints.to_json(),
        **_decision(of),
        "outputs": {split: output.to_json() for split, output in outputs.items()},
    }


def _decision(of: Measured) -> dict[str, Any]:
    return {
        "decision_threshold_rule": of.rule,
        "decision_threshold": of.decision.threshold,
        "decision_threshold_reason": of.decision.reason,
        "calibration": of.decision.calibrator.kind,
    }
