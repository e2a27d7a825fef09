"""The encode stage as a Prefect task."""

from __future__ import annotations

from typing import Any

from prefect import task

from tasks.policy import OPTIONS, StageCall, run_stage


@task(name="encode", **OPTIONS)
def encode(call: StageCall) -> dict[str, Any]:
    """Turn accepted samples into tokens and weights."""
    return run_stage(call)
