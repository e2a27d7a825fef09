"""The distill flow: the pipeline of core.pipeline.distill as a Prefect flow."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import flow

from core.config import Config
from core.pipeline.opening import opened
from core.pipeline.run import distill_all, report_page
from core.pipeline.switches import switches
from flows.runtime import TWO_THREADS, PrefectRunner, resolved_of
from flows.showing import explaining, flow_run_name


@flow(name="distill", flow_run_name=flow_run_name, persist_result=False, task_runner=TWO_THREADS)
def distill(
    config: Config,
    data: str | None = None,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    refresh: Sequence[str] = (),
    new: bool = False,
) -> str:
    """Run the pipeline of a config and return where its report is.

    Args:
        config: Everything that decides the run; relative paths are relative to the working directory.
        data: A table instead of data.path, data.dir or data.files, such as a trigger knows; the run is
            then called <run.name>-<the table's name>.
        only: Stages to run; all others take this run's own earlier result.
        skip: Stages that take this run's own earlier result.
        refresh: Stages that are built again although their objects are whole.
        new: If run.name belongs to a run of another config, keep that run under another name.
    """
    resolved = resolved_of(config, data)
    chosen = switches(resolved.config.stages, only, skip, refresh)
    with explaining(resolved.run_name), opened(resolved, chosen, PrefectRunner, new=new) as run:
        outcome = distill_all(run, lambda seed: distill(seed.as_parameter(), None, only, skip, refresh, new))
        return report_page(run, outcome)


if __name__ == "__main__":  # `python -m flows.distill ...` is `understudy run ...`
    import runpy
    import sys

    sys.argv.insert(1, "run")
    runpy.run_module("flows.cli", run_name="__main__")
