"""The local engine: torch and peft in this process, on a CPU or one GPU.

Importing it does not import torch; opening a session or a sampler does.
"""

from __future__ import annotations

from core.engines.local.engine import LocalEngine

__all__ = ["LocalEngine"]
