"""The reward stage as a Prefect task."""

from __future__ import annotations

from typing import Any

from prefect import task

from tasks.policy import OPTIONS, StageCall, run_stage


@task(name="reward", **OPTIONS)
def reward(call: StageCall) -> dict[str, Any]:
    """Reward a checkpoint's own answers on val."""
    return run_stage(call)
