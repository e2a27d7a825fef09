"""The baseline flow's report as a Prefect task: cheap, made anew each time."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from core.pipeline import baselines
from core.pipeline.baselines import Baselines
from core.store.runs import RunView


@task(name="baseline-report", cache_policy=NO_CACHE, persist_result=False)
def baseline_report(measured: Baselines, view: RunView) -> str:
    """Write baseline_phase/; return where the report is."""
    return baselines.write(measured, view)
