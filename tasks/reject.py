"""The reject stage as a Prefect task."""

from __future__ import annotations

from prefect import task

from tasks.policy import OPTIONS, StageCall, run_stage


@task(name="reject", **OPTIONS)
def reject(call: StageCall) -> dict[str, str]:
    """Keep the answers worth learning."""
    return run_stage(call)
