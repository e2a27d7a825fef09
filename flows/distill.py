"""The main flow: texts and rules in, a measured student out. Reads from top to bottom."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prefect import flow

from core.config.loading import load
from core.evaluation.selection import EvaluatedCheckpoint, Selection, select, should_stop
from core.evaluation.metrics import value
from core.evaluation.stage import read_metrics
from core.pipeline.views import View
from core.store.manifest import Manifest
from core.student.plan import PlannedStep
from flows.execution import Execution
from flows.exporting import Exported, export_checkpoint
from flows.logs import run_log
from flows.reporting import report_and_publish
from flows.switches import switches
from tasks.encode import encode
from tasks.evaluate import evaluate
from tasks.reject import reject
from tasks.sample import sample
from tasks.split import split
from tasks.train import train

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Trained:
    """The checkpoints of a run by step, step 0 (the untrained model, no checkpoint) included."""

    checkpoints: dict[int, Manifest | None]
    evaluations: dict[int, Manifest]


@flow(name="distill", persist_result=False)
def distill(
    config: str,
    overrides: Sequence[str] = (),
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    refresh: Sequence[str] = (),
) -> str:
    """Run the pipeline of a config file and return the path of its report.

    `overrides` are `key=value` as for --set; `only`, `skip` and `refresh` name stages.
    """
    resolved = load(Path(config), overrides)
    run = Execution(resolved, switches(resolved.config.stages, only, skip, refresh))
    with run_log(run.view.folder / "train.log"):
        try:
            return str(_distill(run))
        finally:
            run.close()


def _distill(run: Execution) -> Path:
    view = View(run.view)
    pipeline = run.pipeline

    parts = run.do(split, pipeline.split, "split", "data_splits/train.csv")
    view.split(parts)

    answers = run.do(sample, lambda: pipeline.sample(parts), "sample", "teacher_phase/teacher_samples.jsonl")
    view.sample(answers)

    kept = run.do(
        reject, lambda: pipeline.reject(parts, answers), "reject", "teacher_phase/accepted_samples.jsonl"
    )
    view.reject(kept)

    encoded = run.do(encode, lambda: pipeline.encode(kept), "encode", "student_phase/train_sft.jsonl")
    view.encode(encoded)

    trained = _train(run, view, parts, encoded)
    chosen = select(_curve(run, trained), run.config.evaluation.metric)
    log.info("%s", chosen.reason)

    if not run.switches.on("export"):
        log.info("export is switched off: no predictions, no report, nothing published")
        return run.view.folder
    exported = export_checkpoint(run, parts, trained.checkpoints, trained.evaluations, chosen.step)
    return report_and_publish(run, view, trained.checkpoints, trained.evaluations, chosen, exported)


def _train(run: Execution, view: View, parts: Manifest, encoded: Manifest) -> Trained:
    """Segments one after another, each followed by its evaluation; step 0 is evaluated first."""
    data = run.folder(encoded)
    steps = run.pipeline.plan(data)
    trained = Trained({0: None}, {0: _evaluate(run, view, parts, None, 0)})
    parent: Manifest | None = None
    for part in run.pipeline.segments(steps):
        parent = _segment(run, part_stop=part.stop, stage=(part, steps, parent, data))
        view.train(parent)
        trained.checkpoints[part.stop] = parent
        if part.evaluate:
            trained.evaluations[part.stop] = _evaluate(run, view, parts, parent, part.stop)
            if _stops_early(run, trained):
                log.info("early stopping after step %d of %d", part.stop, len(steps))
                break
    return trained
