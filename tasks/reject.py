"""The reject stage as a Prefect task."""

from __future__ import annotations

from typing import Any

from prefect import task

from tasks.policy import OPTIONS, StageCall, run_stage


@task(name="reject", **OPTIONS)
def reject(call: StageCall) -> dict[str, Any]:
    """Keep the answers worth learning."""
    return run_stage(call)
