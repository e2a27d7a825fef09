"""The publish stage as a Prefect task: the last thing a run does."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from core.pipeline import reporting
from core.pipeline.outcome import Outcome
from core.store.runs import RunView


@task(name="publish", cache_policy=NO_CACHE, persist_result=False)
def publish(outcome: Outcome, view: RunView) -> list[str]:
    """Swap model/<run>.json and model/latest.json, after all that they name exists."""
    return reporting.publish(outcome, view)
