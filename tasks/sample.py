"""The sample stage as a Prefect task."""

from __future__ import annotations

from typing import Any

from prefect import task

from tasks.policy import OPTIONS, StageCall, run_stage


@task(name="sample", **OPTIONS)
def sample(call: StageCall) -> dict[str, Any]:
    """Get the teacher's answers."""
    return run_stage(call)
