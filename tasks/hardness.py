"""The hardness stage as a Prefect task."""

from __future__ import annotations

from typing import Any

from prefect import task

from tasks.policy import OPTIONS, StageCall, run_stage


@task(name="hardness", **OPTIONS)
def hardness(call: StageCall) -> dict[str, Any]:
    """Say how the student does on the texts that were hard for its teacher."""
    return run_stage(call)
