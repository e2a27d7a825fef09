"""The reinforce flow's report and pointer as Prefect tasks: cheap, made anew each time."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from core.pipeline import rl_reporting
from core.pipeline.outcome import Outcome
from core.pipeline.phases import RL
from core.pipeline.reporting import write_exports
from core.store.runs import RunView


@task(name="rl-report", cache_policy=NO_CACHE, persist_result=False)
def rl_report(outcome: Outcome, view: RunView) -> str:
    """Write predictions, metrics, the report and the summary into rl_phase/; return where the report is."""
    write_exports(outcome, view, RL.folder)
    return rl_reporting.write_report(outcome, view)


@task(name="rl-publish", cache_policy=NO_CACHE, persist_result=False)
def rl_publish(outcome: Outcome, view: RunView) -> list[str]:
    """Swap model/<run>-rl.json and model/rl_latest.json, after all that they name exists."""
    return rl_reporting.publish(outcome, view)
