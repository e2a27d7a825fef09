"""The report stage as a Prefect task: cheap, made anew each time from what the run's stages left."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from core.pipeline.outcome import Outcome
from core.pipeline.reporting import write_exports, write_report
from core.store.runs import RunView


@task(name="report", cache_policy=NO_CACHE, persist_result=False)
def report(outcome: Outcome, view: RunView) -> Path:
    """Write predictions, metrics, the report and the summary, and show the report in Prefect."""
    write_exports(outcome, view)
    path = write_report(outcome, view)
    create_markdown_artifact(
        key="test-report", markdown=path.read_text(encoding="utf-8"), description=f"Run {outcome.run}"
    )
    return path
