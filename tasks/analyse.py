"""The analyse stage as a Prefect task."""

from __future__ import annotations

from typing import Any

from prefect import task

from tasks.policy import OPTIONS, StageCall, run_stage


@task(name="analyse", **OPTIONS)
def analyse(call: StageCall) -> dict[str, Any]:
    """Say all that is to be said of every scorer on one split."""
    return run_stage(call)
