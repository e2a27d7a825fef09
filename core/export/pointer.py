"""`model/<run>.json` and `model/latest.json`: where a published model is. Content only; see core.store."""

from __future__ import annotations

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
    threshold: float
    metrics_path: str | None
    run_dir: str
    engine: str
    base_model: str
    """As the config names it."""
    base_digest: str
    """sha256 of its weights and tokenizer, or the server's name for them."""
    target: str
    prompts_digest: str
    server: str | None = None
    """tinker: where the base model and the checkpoints are."""
    sampler_path: str | None = None
    """tinker: the chosen weights on the server, beside the adapter at home."""

    def to_json(self) -> dict[str, Any]:
        """The mapping that is written."""
        return asdict(self)
