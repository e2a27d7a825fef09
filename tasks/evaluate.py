"""The evaluate stage as a Prefect task."""

from __future__ import annotations

from prefect import task

from tasks.policy import OPTIONS, StageCall, run_stage


@task(name="evaluate", **OPTIONS)
def evaluate(call: StageCall) -> dict[str, str]:
    """Measure one checkpoint on val."""
    return run_stage(call)
