"""The adapter stage as a Prefect task."""

from __future__ import annotations

from typing import Any

from prefect import task

from tasks.policy import OPTIONS, StageCall, run_stage


@task(name="adapter", **OPTIONS)
def adapter(call: StageCall) -> dict[str, Any]:
    """Take the chosen checkpoint's adapter home from its server."""
    return run_stage(call)
