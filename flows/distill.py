"""The main flow: texts and rules in, a measured student out. Reads from top to bottom."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from prefect import flow

from core.config import Config
from core.evaluation.selection import select
from core.pipeline import phases
from core.pipeline.estimate import estimate, note_estimate
from core.pipeline.outcome import Outcome
from core.pipeline.reporting import PAGE
from core.pipeline.views import View
from core.rejection.stage import ensure_usable
from core.report.teaching import dropped
from flows import seeds
from flows.comparing import compared
from flows.execution import Execution, execution
from flows.exporting import bundle_student, export_checkpoint, outcome_of, take_home
from flows.hardness import looked_into
from flows.labelling import answered, labelled
from flows.parameters import resolved_of
from flows.showing import explaining, flow_run_name, show
from flows.submitting import TWO_THREADS
from flows.switches import switches
from flows.training import train_and_evaluate
from tasks.publish import publish
from tasks.report import report

log = logging.getLogger(__name__)


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
        refresh: Stages that are made again although they are whole.
        new: Begin run.name anew where it stands for another config.
    """
    resolved = resolved_of(config, data)
    off = switches(resolved.config.stages, only, skip, refresh)
    with explaining(resolved.run_name), execution(resolved, off, new=new) as run:
        outcome = pipeline(run)
        if outcome is None:
            return run.view.where()
        for seed in seeds.others(run.config):
            distill(seeds.config_of(resolved, seed), None, only, skip, refresh, new)
        if seeds.others(run.config):
            run.perform(report, outcome, run.view)
        show(run.view)
        return run.view.where(PAGE)


def pipeline(run: Execution) -> Outcome | None:
    """Every stage in its order; returns what came of it, None without an export."""
    view, build = View(run.view, trackers=run.trackers), run.pipeline
    build.preflight()

    parts = run.do("split", build.split, "data_splits/train.csv")
    view.split(parts)

    answers = answered(run, view, parts)
    labels = labelled(run, view, parts)

    file = "teacher_phase/accepted_samples.jsonl"
    kept = run.do("reject", lambda: build.reject(parts, answers), file)
    view.reject(kept)
    ensure_usable(dict(kept.summary))

    file = "student_phase/train_sft.jsonl"
    encoded = run.do("encode", lambda: build.encode(kept), file)
    view.encode(encoded)
    if (lost := dropped(encoded.summary)) is not None:
        log.warning("%s", lost)
    if build.is_remote:
        note_estimate(run.view, estimate(build, run.store, parts, encoded))

    trained = train_and_evaluate(run, view, parts, encoded)
    chosen = select(trained.curve, run.config.evaluation.metric)
    log.info("%s", chosen.reason)

    if not run.switches.on("export"):
        log.info("export is switched off: no predictions, no report, nothing published")
        return None
    others = compared(run, parts, trained, labels)
    exported = export_checkpoint(run, parts, trained, chosen.step, others=others)
    hard = looked_into(run, parts, kept, labels, exported.modes[0])
    for name, manifest in hard.items():
        view.hardness(manifest, name)
    home = take_home(run, view, parts, exported.checkpoint)
    bundled = bundle_student(run, view, parts, kept, exported, home, encoded=encoded)
    known = {"kept": kept, "encoded": encoded, "home": home, "bundle": bundled, "hard": hard}
    outcome = outcome_of(run, parts, trained, chosen, exported, **known)
    run.view.keep_only([*run.used, *filter(phases.is_rl, run.view.stages())])
    run.perform(report, outcome, run.view)
    if run.config.publish:
        run.perform(publish, outcome, run.view)
    return outcome


if __name__ == "__main__":
    # Run as a script this module is a second copy of itself; the command line imports the first.
    import sys

    from flows.cli import main

    main(["run", *sys.argv[1:]])
