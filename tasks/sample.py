"""The sample stage as a Prefect task."""

from __future__ import annotations

from prefect import task

from tasks.policy import OPTIONS, StageCall, run_stage


@task(name="sample", **OPTIONS)
def sample(call: StageCall) -> dict[str, str]:
    """Get the teacher's answers."""
    return run_stage(call)
