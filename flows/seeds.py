"""Other seeds of a run: runs of their own, made after it, whose spread its report then shows."""

from __future__ import annotations

from collections.abc import Sequence

from core.config.loading import ResolvedConfig
from core.pipeline.seeds import name_of, others

__all__ = ["others", "overrides"]


def overrides(resolved: ResolvedConfig, given: Sequence[str], seed: int) -> list[str]:
    """What makes the run's config that of another seed, after what the command line `given`.

    Nothing of it is published: which seed is, stood in the config before any of them was measured.
    """
    name = name_of(resolved.run_name, seed)
    return [*given, f'run.name="{name}"', f"student.seeds=[{seed}]", "publish=false"]
