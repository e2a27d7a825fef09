"""The local engine: torch and peft in this process. Importing it does not import torch."""

from __future__ import annotations

from core.engines.local.engine import LocalEngine

__all__ = ["LocalEngine"]
