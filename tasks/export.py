"""The export stage as a Prefect task."""

from __future__ import annotations

from typing import Any

from prefect import task

from tasks.policy import OPTIONS, StageCall, run_stage


@task(name="export", **OPTIONS)
def export(call: StageCall) -> dict[str, Any]:
    """Measure the chosen checkpoint on one split, with everything frozen."""
    return run_stage(call)
