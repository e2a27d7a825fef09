"""The export stage as a Prefect task."""

from __future__ import annotations

from prefect import task

from tasks.policy import OPTIONS, StageCall, run_stage


@task(name="export", **OPTIONS)
def export(call: StageCall) -> dict[str, str]:
    """Measure the chosen checkpoint on one split, with everything frozen."""
    return run_stage(call)
