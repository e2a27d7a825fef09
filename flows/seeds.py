"""Other seeds of a run: runs of their own, made after it, whose spread its report then shows."""

from __future__ import annotations

from core.config import Config
from core.config.loading import ResolvedConfig
from core.pipeline import seeds
from core.pipeline.seeds import others

__all__ = ["config_of", "others"]


def config_of(resolved: ResolvedConfig, seed: int) -> Config:
    """The run's config with another seed."""
    return seeds.config_of(resolved.config, resolved.run_name, seed)
