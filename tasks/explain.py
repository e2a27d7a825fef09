"""The explain stage as a Prefect task."""

from __future__ import annotations

from typing import Any

from prefect import task

from tasks.policy import OPTIONS, StageCall, run_stage


@task(name="explain", **OPTIONS)
def explain(call: StageCall) -> dict[str, Any]:
    """Let the student say something of its worst errors."""
    return run_stage(call)
