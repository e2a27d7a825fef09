"""The reinforce flow: the pipeline of core.pipeline.reinforcement as a Prefect flow."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import flow

from core.config import Config
from core.pipeline.opening import opened
from core.pipeline.reinforcement import reinforce as pipeline
from core.pipeline.run import finish, report_page
from core.pipeline.runners import switches
from flows.runtime import TWO_THREADS, PrefectRunner, explaining, flow_run_name, resolved_of


@flow(name="reinforce", flow_run_name=flow_run_name, persist_result=False, task_runner=TWO_THREADS)
def reinforce(
    config: Config,
    data: str | None = None,
    start: str | None = None,
    refresh: Sequence[str] = (),
    replace: bool = False,
) -> str:
    """Reinforce a student by a config's `reinforce:`, in the run's rl_phase/, and return where its report is.

    Args:
        config: Everything that decides the run; relative paths are relative to the working directory.
        data: A table instead of data.path, data.dir or data.files; the run is then called
            <run.name>-<the table's name>.
        start: A run whose published student to begin with, latest, or base; by default the run's own.
        refresh: Stages that are built again although their objects are whole.
        replace: Replace the files of a reinforcement with other settings in rl_phase/.
    """
    resolved = resolved_of(config, data)
    chosen = switches(resolved.config.stages, (), (), refresh)
    explained = explaining(resolved.run_name, "reinforce", "reinforce")
    with explained, opened(resolved, chosen, PrefectRunner) as run:
        outcome = pipeline(run, start, replace=replace)
        finish(run, outcome)
        return report_page(run, outcome)


if __name__ == "__main__":  # `python -m flows.reinforce ...` is `understudy reinforce ...`
    import runpy
    import sys

    sys.argv.insert(1, "reinforce")
    runpy.run_module("flows.cli", run_name="__main__")
