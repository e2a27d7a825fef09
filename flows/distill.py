"""The main flow: texts and rules in, a measured student out. Reads from top to bottom."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence

from prefect import flow

from core.config import Config
from core.evaluation.selection import select
from core.optional import Part
from core.pipeline import phases
from core.pipeline.estimate import estimate, note_estimate
from core.pipeline.outcome import Outcome
from core.pipeline.reporting import REPORT, page_of
from core.pipeline.views import View
from core.rejection.stage import ensure_usable
from core.report.sections.teaching import dropped
from core.student.stage import EncodeSummary
from flows import seeds
from flows.comparing import check_label_only_run, compared
from flows.execution import Execution, execution
from flows.exporting import bundle_student, download_adapter, export_checkpoint, outcome_of
from flows.hardness import looked_into
from flows.labelling import answered, labelled
from flows.parameters import resolved_of
from flows.showing import explaining, flow_run_name, show
from flows.submitting import TWO_THREADS
from flows.switches import switches
from flows.training import FILES, require_inputs, train_and_evaluate
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
            log.info("the stages after %s are off: no report, nothing published", run.switches.last)
            return run.view.where()
        for seed in seeds.others(run.config):
            distill(seeds.config_of(resolved, seed), None, only, skip, refresh, new)
        if seeds.others(run.config):
            run.perform(report, outcome, run.view)
        return concluded(run, outcome)


def pipeline(run: Execution) -> Outcome | None:
    """Every stage in its order; returns what came of it, None where the last stages are switched off."""
    view, build, last = View(run.view, trackers=run.trackers), run.pipeline, run.switches.last
    build.preflight()
    require_inputs(run)
    if last == "export":
        check_label_only_run(run)

    parts = run.do("split", build.split, FILES["split"])
    view.split(parts)
    if last == "split":
        return None
    if last == "export":
        check_label_only_run(run, parts)

    answers = answered(run, view, parts)
    labels = labelled(run, view, parts)
    if last == "sample":
        return None

    kept = run.do("reject", lambda: build.reject(parts, answers), FILES["reject"])
    view.reject(kept)
    ensure_usable(dict(kept.summary))
    if last == "reject":
        return None

    encoded = run.do("encode", lambda: build.encode(kept), FILES["encode"])
    view.encode(encoded)
    if (lost := dropped(EncodeSummary.from_json(encoded.summary, encoded.path))) is not None:
        log.warning("%s", lost)
    if build.capabilities.metered:
        with run.optional(Part.ESTIMATE):
            note_estimate(run.view, estimate(build, run.store, parts, encoded))
    if last == "encode":
        return None

    trained = train_and_evaluate(run, view, parts, encoded)
    if last == "train":
        return None
    chosen = select(trained.curve, run.config.evaluation.metric)
    log.info("%s", chosen.reason)
    if last == "evaluate":
        return None

    others = compared(run, parts, trained, labels)
    exported = export_checkpoint(run, parts, trained, chosen.step, others=others)
    hard = looked_into(run, parts, kept, labels, exported.modes[0])
    for name, manifest in hard.items():
        with run.optional(Part.HARDNESS, name):
            view.hardness(manifest, name)
    home = download_adapter(run, view, parts, exported.checkpoint)
    bundled = bundle_student(run, view, parts, kept, exported, home, encoded=encoded)
    known = {"kept": kept, "encoded": encoded, "home": home, "bundle": bundled, "hard": hard}
    outcome = outcome_of(run, parts, trained, chosen, exported, **known)
    run.view.keep_only([*run.used, *filter(phases.is_rl, run.view.stages())])
    run.perform(report, outcome, run.view)
    if run.config.publish:
        run.perform(publish, outcome, run.view)
    return outcome


def concluded(run: Execution, outcome: Outcome) -> str:
    """End trackers and show the run in Prefect; returns where its report is."""
    with reported(run, outcome):
        run.trackers.finish(run.view)
    with reported(run, outcome):
        show(run.view, run.failures)
    if run.failures:
        log.warning("optional parts left out: %d; %s lists them", len(run.failures), run.view.where(REPORT))
    return run.view.where(page_of(outcome))


@contextlib.contextmanager
def reported(run: Execution, outcome: Outcome) -> Iterator[None]:
    """Write the report again where an optional part fails inside, after it was written."""
    before = len(run.failures)
    yield
    if len(run.failures) > before:
        run.perform(report, outcome, run.view)


if __name__ == "__main__":
    # Run as a script this module is a second copy of itself; the command line imports the first.
    import sys

    from flows.cli import main

    main(["run", *sys.argv[1:]])
