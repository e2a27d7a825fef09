"""The train stage as a Prefect task."""

from __future__ import annotations

from typing import Any

from prefect import task

from tasks.policy import OPTIONS, StageCall, run_stage


@task(name="train", **OPTIONS)
def train(call: StageCall) -> dict[str, Any]:
    """Train one segment, from a saved state to the next."""
    return run_stage(call)
