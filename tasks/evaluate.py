"""The evaluate stage as a Prefect task."""

from __future__ import annotations

from typing import Any

from prefect import task

from tasks.policy import OPTIONS, StageCall, run_stage


@task(name="evaluate", **OPTIONS)
def evaluate(call: StageCall) -> dict[str, Any]:
    """Measure one checkpoint on val."""
    return run_stage(call)
