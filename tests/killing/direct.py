"""A whole run without Prefect: no server, no thread."""

from __future__ import annotations

import logging
from pathlib import Path

from core.config.loading import load
from core.pipeline.distillation import distill
from core.pipeline.opening import opened
from core.pipeline.runners import Runner, switches


def run(config: Path, overrides: list[str]) -> None:
    """One run from its beginning to its end."""
    for name in ("core", "flows", "tasks"):
        logging.getLogger(name).setLevel(logging.WARNING)
    resolved = load(config, overrides)
    with opened(resolved, switches(resolved.config.stages), Runner) as started:
        distill(started)
