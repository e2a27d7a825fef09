"""The flow's own walk through the pipeline with tasks as plain functions: no server, no thread."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from prefect import Task

from core.config.loading import load
from core.progress import Silent
from core.stages import Stage
from flows.distill import pipeline
from flows.execution import Execution, execution
from flows.switches import switches
from tasks.by_stage import TASKS
from tasks.policy import StageCall


class Direct(Execution):
    """Calls what each task calls."""

    def perform(self, task: Task[..., Any], *arguments: Any) -> Any:
        """The task's function."""
        return task.fn(*arguments)

    def perform_stage(self, stage: Stage, *, refresh: bool, cached: bool) -> bool:
        """The task's function; of a stage that is whole nothing, as Prefect's cache does."""
        if cached:
            return True
        call = StageCall(self.store, stage, Silent, refresh=refresh)
        TASKS[stage.name].fn(call)
        return call.reused


def run(config: Path, overrides: list[str]) -> None:
    """One run from its beginning to its end."""
    for name in ("core", "flows", "tasks"):
        logging.getLogger(name).setLevel(logging.WARNING)
    resolved = load(config, overrides)
    with execution(resolved, switches(resolved.config.stages), kind=Direct) as started:
        pipeline(started)
