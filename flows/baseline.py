"""The baselines by themselves: what a student has to beat, before one is trained."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from core.config import Config
from core.errors import StageError, UserError
from core.optional import Part
from core.pipeline.baselines import REPORT, Baselines
from core.pipeline.views import View
from core.records import SplitName
from flows.comparing import check_label_only_run, compared
from flows.execution import Execution, execution
from flows.labelling import answered, labelled
from flows.parameters import resolved_of
from flows.showing import flow_run_name
from flows.switches import switches
from flows.training import FILES
from flows.walking import Trained
from tasks.baseline_report import baseline_report

METRICS = "baseline_phase/metrics_val.json"


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
        with run.optional(Part.ARTIFACT, "baseline-report"):
            if (report := run.view.read(REPORT)) is not None:
                create_markdown_artifact(key="baseline-report", markdown=report, description=run.view.name)
    return where


def measure(run: Execution) -> str:
    """Every baseline in its order; returns where the report is.

    A baseline that fails is named in the report. Raises StageError where all of them do.
    """
    view, build = View(run.view), run.pipeline
    build.preflight()
    require_measuring(run)
    check_label_only_run(run)
    parts = run.do("split", build.split, FILES["split"])
    view.split(parts)
    check_label_only_run(run, parts)

    asks = run.switches.on("sample") and run.config.teacher.kind != "gold"
    answers = answered(run, view, parts) if asks else None
    labels = labelled(run, view, parts) if asks else {}

    # Not by Evaluations: these would write the run's learning curve anew, with step 0 alone.
    trained = Trained({}, {}, [])
    with run.optional(Part.UNTRAINED):
        trained.evaluations[0] = run.do_built(build.measuring.evaluate(parts, None, 0), METRICS)
    split: SplitName = "test" if "test" in run.config.export.splits else "val"
    scorers = [s for s in compared(run, parts, trained, labels) if split in s.rows]
    if not scorers:
        reasons = "; ".join(f"{f.part}: {f.message}" for f in run.failures)
        raise StageError(f"no baseline could be measured: {reasons}")
    analyse = partial(build.measuring.analyse, parts, scorers, split, "baselines")
    analysis = run.do_without(analyse, "baseline_phase/analysis.json")
    measured = Baselines(run.config, scorers, split, analysis, answers, run.failures)
    where: str = run.perform(baseline_report, measured, run.view)
    return where


def require_measuring(run: Execution) -> None:
    """Find, before any work, that a stage which is off has no earlier result.

    Raises MissingInputError naming the run and the file, and UserError where baselines themselves are off.
    """
    if not run.switches.on("export"):
        raise UserError("the baselines are measured with the stage export: switch it on")
    if not run.switches.on("split"):
        run.require("split", FILES["split"])
    if not run.switches.on("evaluate"):
        run.require("evaluate/0", METRICS)


if __name__ == "__main__":
    import sys

    from flows.cli import main

    main(["baseline", *sys.argv[1:]])
