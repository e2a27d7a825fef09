"""The bundle stage as a Prefect task."""

from __future__ import annotations

from typing import Any

from prefect import task

from tasks.policy import OPTIONS, StageCall, run_stage


@task(name="bundle", **OPTIONS)
def bundle(call: StageCall) -> dict[str, Any]:
    """Write all that a deployment of the chosen student needs into one folder."""
    return run_stage(call)
