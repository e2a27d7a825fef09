"""The small JSON files beside the predictions: metrics of each split, and the export's manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.evaluation.metrics import Metrics
from core.evaluation.threshold import RULE
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


def split_metrics(of: Measured, split: SplitName, metrics: Metrics, predictions_path: str) -> dict[str, Any]:
    """`metrics_{split}.json`."""
    return _split_metrics(of, split, metrics, {"predictions_path": predictions_path})


def split_metrics_label_only(of: Measured, split: SplitName, metrics: Metrics) -> dict[str, Any]:
    """`metrics_{split}_label_only.json`: no predictions are written in that mode."""
    return _split_metrics(of, split, metrics, {})


def manifest(of: Measured, threshold: float, outputs: Mapping[SplitName, Output]) -> dict[str, Any]:
    """`manifest.json`."""
    return _manifest(of, {"decision_threshold": threshold}, outputs)


def manifest_label_only(
    of: Measured, threshold: float, outputs: Mapping[SplitName, Output]
) -> dict[str, Any]:
    """`manifest_label_only.json`, which names the rule of its own threshold."""
    return _manifest(of, {"decision_threshold_rule": RULE, "decision_threshold": threshold}, outputs)


def _split_metrics(
    of: Measured, split: SplitName, metrics: Metrics, paths: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "created_at": of.created_at,
        "checkpoint_path": of.checkpoint_path,
        "split": split,
        **of.fingerprints.to_json(),
        "decision_threshold": metrics.decision_threshold,
        "n": metrics.n,
        **paths,
        "metrics": metrics.to_json(),
    }


def _manifest(
    of: Measured, threshold: Mapping[str, Any], outputs: Mapping[SplitName, Output]
) -> dict[str, Any]:
    return {
        "generated_at": of.created_at,
        "run_name": of.run_name,
        "checkpoint_path": of.checkpoint_path,
        **of.fingerprints.to_json(),
        **threshold,
        "outputs": {split: output.to_json() for split, output in outputs.items()},
    }
