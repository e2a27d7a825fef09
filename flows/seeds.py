"""Other seeds of a run: runs of their own, made after it, whose spread its report then shows."""

from __future__ import annotations

from core.config import Config
from core.config.loading import ResolvedConfig
from core.pipeline.seeds import name_of, others

__all__ = ["config_of", "others"]


def config_of(resolved: ResolvedConfig, seed: int) -> Config:
    """The run's config with another seed.

    Nothing of it is published: which seed is, stood in the config before any of them was measured.
    """
    config = resolved.config
    run = config.run.model_copy(update={"name": name_of(resolved.run_name, seed)})
    student = config.student.model_copy(update={"seeds": (seed,)})
    return config.model_copy(update={"run": run, "student": student, "publish": False})
