"""The small JSON files of a run: metrics of each split, and model/<run>.json."""

from __future__ import annotations

from typing import Literal

from core.evaluation.calibration import Calibrator
from core.evaluation.metrics import Metrics
from core.intervals import Interval
from core.jsonio import Record, Stored
from core.records import SplitName
from core.results import ReinforcementStart
from core.store import Store, pointers


class SplitMetrics(Stored):
    """The content of metrics_<split>.json and metrics_<split>_label_only.json.

    `dataset_fingerprint` is the digest of the split, `config_fingerprint` the key of the measurement.
    """

    created_at: str
    checkpoint_path: str
    split: SplitName
    dataset_fingerprint: str
    config_fingerprint: str
    decision_threshold_rule: str
    decision_threshold: float | None
    decision_threshold_reason: str
    calibration: str
    n: int
    predictions_path: str | None = None
    """None in the label-only mode, which writes no predictions."""
    metrics: Metrics
    intervals: dict[str, Interval] = {}


def file_name(stem: str, *, label_only: bool = False) -> str:
    """Return the name of a file about one mode of the student: decision.json, manifest_label_only.json."""
    return f"{stem}{'_label_only' if label_only else ''}.json"


def metrics_name(split: SplitName, *, label_only: bool = False) -> str:
    """Return the name of the file with a split's metrics."""
    return file_name(f"metrics_{split}", label_only=label_only)


class Pointer(Record):
    """What `predict --model` needs to find and to reproduce the model. `saved_at` is ISO 8601."""

    saved_at: str
    run_name: str
    final_model_path: str | None
    best_model_path: str
    resume_state_path: str | None
    best_step: int
    threshold: float | None
    """On calibrated probabilities; None if no threshold meets the config's objective."""
    metrics_path: str | None
    run_dir: str
    engine: str
    base_model: str
    """As the config names it."""
    base_digest: str
    """sha256 of its weights and tokenizer, or the server's name for them."""
    target: str
    prompts_digest: str
    threshold_reason: str
    calibrator: Calibrator
    decision_path: str
    """decision.json: how calibrator and threshold were fitted, and how certain the threshold is."""
    bundle_path: str | None = None
    """The folder that `predict` loads; see core.bundle."""
    server: str | None = None
    """tinker: where the base model and the checkpoints are."""
    sampler_path: str | None = None
    """tinker: the chosen weights on the server, in addition to the downloaded adapter."""


class ReinforcedPointer(Pointer):
    """The pointer to a student that learned from rewards."""

    phase: Literal["rl"] = "rl"
    start: ReinforcementStart
    best_val_macro_f1: float | None
    final_state_path: str | None


class PointerStart(Record):
    """What reinforcement reads of the pointer to its start, also of version 0.1."""

    run_dir: str
    best_step: int
    engine: str
    base_digest: str
    prompts_digest: str
    phase: str | None = None
    """The value `rl` marks a student that was reinforced already."""


def read_start(store: Store, name: str) -> PointerStart | None:
    """The pointer of a run to reinforce; None if it does not exist. Raises StoreError if it is damaged."""
    found = pointers.read(store, name)
    return None if found is None else PointerStart.from_json(found, store.where(f"model/{name}.json"))
