"""The baselines by themselves: what a student has to beat, before one is trained."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from core.config import Config
from core.pipeline.baselines import REPORT, Baselines
from core.pipeline.views import View
from core.records import SplitName
from flows.comparing import compared
from flows.execution import Execution, execution
from flows.labelling import answered, labelled
from flows.parameters import resolved_of
from flows.showing import flow_run_name
from flows.switches import switches
from flows.walking import Trained
from tasks.baseline_report import baseline_report


@flow(name="baseline", flow_run_name=flow_run_name, persist_result=False)
def baseline(
    config: Config,
    data: str | None = None,
    skip: Sequence[str] = (),
    refresh: Sequence[str] = (),
    new: bool = False,
) -> str:
    """Measure a config's baselines, in the run's folder, and return where their report is.

    The stages are those of distill, which reuses what is made here.

    Args:
        config: Everything that decides the run; relative paths are relative to the working directory.
        data: A table instead of data.path, data.dir or data.files; the run is then called
            <run.name>-<the table's name>.
        skip: Stages to leave out; without sample the teacher is not asked.
        refresh: Stages that are made again although they are whole.
        new: Begin run.name anew where it stands for another config.
    """
    resolved = resolved_of(config, data)
    with execution(resolved, switches(resolved.config.stages, (), skip, refresh), new=new) as run:
        where = measure(run)
        if (report := run.view.read(REPORT)) is not None:
            create_markdown_artifact(key="baseline-report", markdown=report, description=run.view.name)
    return where


def measure(run: Execution) -> str:
    """Every baseline in its order; returns where the report is."""
    view, build = View(run.view), run.pipeline
    build.preflight()
    parts = run.do("split", build.split, "data_splits/train.csv")
    view.split(parts)

    asks = run.switches.on("sample") and run.config.teacher.kind != "gold"
    answers = answered(run, view, parts) if asks else None
    labels = labelled(run, view, parts) if asks else {}

    # Not by Evaluations: these would write the run's learning curve anew, with step 0 alone.
    untrained = run.do_built(build.measuring.evaluate(parts, None, 0), "baseline_phase/metrics_val.json")
    trained = Trained({}, {0: untrained}, [])
    split: SplitName = "test" if "test" in run.config.export.splits else "val"
    scorers = [s for s in compared(run, parts, trained, labels) if split in s.rows]
    stage = build.measuring.analyse(parts, scorers, split, "baselines")
    analysis = run.do_built(stage, "baseline_phase/analysis.json")
    measured = Baselines(run.config, scorers, split, analysis, answers)
    where: str = run.perform(baseline_report, measured, run.view)
    return where


if __name__ == "__main__":
    import sys

    from flows.cli import main

    main(["baseline", *sys.argv[1:]])
