"""The baseline flow: the pipeline of core.pipeline.distillation as a Prefect flow."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import flow

from core.config import Config
from core.pipeline.distillation import BASELINE_REPORT, measure_baselines
from core.pipeline.opening import opened
from core.pipeline.runners import switches
from flows.runtime import PrefectRunner, flow_run_name, resolved_of, show_report


@flow(name="baseline", flow_run_name=flow_run_name, persist_result=False)
def baseline(
    config: Config,
    data: str | None = None,
    skip: Sequence[str] = (),
    refresh: Sequence[str] = (),
    new: bool = False,
) -> str:
    """Measure a config's baselines, in the run's folder, and return where their report is.

    The stages are those of distill, which reuses what is built here.

    Args:
        config: Everything that decides the run; relative paths are relative to the working directory.
        data: A table instead of data.path, data.dir or data.files; the run is then called
            <run.name>-<the table's name>.
        skip: Stages to leave out; without sample the teacher is not asked.
        refresh: Stages that are built again although their objects are whole.
        new: If run.name belongs to a run of another config, keep that run under another name.
    """
    resolved = resolved_of(config, data)
    chosen = switches(resolved.config.stages, (), skip, refresh)
    with opened(resolved, chosen, PrefectRunner, new=new) as run:
        page = measure_baselines(run)
        show_report("baseline-report", BASELINE_REPORT, run.view, run.failures)
    return page


if __name__ == "__main__":  # `python -m flows.baseline ...` is `understudy baseline ...`
    import runpy
    import sys

    sys.argv.insert(1, "baseline")
    runpy.run_module("flows.cli", run_name="__main__")
