"""The encode stage as a Prefect task."""

from __future__ import annotations

from prefect import task

from tasks.policy import OPTIONS, StageCall, run_stage


@task(name="encode", **OPTIONS)
def encode(call: StageCall) -> dict[str, str]:
    """Turn accepted samples into tokens and weights."""
    return run_stage(call)
