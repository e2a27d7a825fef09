"""The split stage as a Prefect task."""

from __future__ import annotations

from typing import Any

from prefect import task

from tasks.policy import OPTIONS, StageCall, run_stage


@task(name="split", **OPTIONS)
def split(call: StageCall) -> dict[str, Any]:
    """Read the data and split it."""
    return run_stage(call)
