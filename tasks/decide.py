"""The decide stage as a Prefect task."""

from __future__ import annotations

from typing import Any

from prefect import task

from tasks.policy import OPTIONS, StageCall, run_stage


@task(name="decide", **OPTIONS)
def decide(call: StageCall) -> dict[str, Any]:
    """Fit calibration and threshold of one scorer on val."""
    return run_stage(call)
