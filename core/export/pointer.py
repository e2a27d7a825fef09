"""`model/<run>.json` and `model/latest.json`: where a published model is. Content only; see core.store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Pointer:
    """What `predict --model` needs to find and to reproduce the model. `saved_at` is ISO 8601."""

    saved_at: str
    run_name: str
    final_model_path: str | None
    best_model_path: str
    resume_state_path: str | None
    best_step: int
    threshold: float | None
    """On calibrated probabilities; None where no threshold did what the config asked for."""
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
    calibrator: Mapping[str, Any]
    """Its kind and parameters, as core.evaluation.calibration reads them."""
    decision_path: str
    """decision.json: how calibrator and threshold were fitted, and how sure the threshold is."""
    bundle_path: str | None = None
    """The folder that `predict` loads; see core.bundle."""
    server: str | None = None
    """tinker: where the base model and the checkpoints are."""
    sampler_path: str | None = None
    """tinker: the chosen weights on the server, beside the adapter at home."""

    def to_json(self) -> dict[str, Any]:
        """The mapping that is written."""
        return asdict(self)
