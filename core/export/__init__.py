"""What a run hands over: predictions, metrics, the pointer (`run_files`), and the bundle for a deployment."""

from __future__ import annotations

from typing import Literal

__all__ = ["Weights"]

Weights = Literal["adapter", "merged", "server"]
"""Which weights answer: the adapter over its base model, the bundle's merged ones, or those on the server
that trained them."""
