"""The baseline stage as a Prefect task."""

from __future__ import annotations

from typing import Any

from prefect import task

from tasks.policy import OPTIONS, StageCall, run_stage


@task(name="baseline", **OPTIONS)
def baseline(call: StageCall) -> dict[str, Any]:
    """Measure the classical baselines on the same rows."""
    return run_stage(call)
