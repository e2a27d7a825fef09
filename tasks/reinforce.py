"""The reinforce stage as a Prefect task."""

from __future__ import annotations

from typing import Any

from prefect import task

from tasks.policy import OPTIONS, StageCall, run_stage


@task(name="reinforce", **OPTIONS)
def reinforce(call: StageCall) -> dict[str, Any]:
    """Sample, reward and learn, from a checkpoint to the next."""
    return run_stage(call)
