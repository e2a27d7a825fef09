"""The report stage as a Prefect task: cheap, made anew each time from what the run's stages left."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from core.pipeline.outcome import Outcome
from core.pipeline.reporting import write_exports, write_report
from core.store.runs import RunView


@task(name="report", cache_policy=NO_CACHE, persist_result=False)
def report(outcome: Outcome, view: RunView) -> str:
    """Write predictions, metrics, the report and the summary; return where the report is."""
    write_exports(outcome, view)
    return write_report(outcome, view)
