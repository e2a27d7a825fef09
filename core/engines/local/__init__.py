"""The local engine: torch and peft in this process, on a CPU or one GPU.

Nothing here imports torch before a session or a sampler is opened, so a run that trains on a
remote engine needs no torch.
"""

from __future__ import annotations

from core.engines.local.engine import LocalEngine
from core.engines.local.weights import ModelSource, resolve_model

__all__ = ["LocalEngine", "ModelSource", "resolve_model"]
