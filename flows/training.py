"""The training loop of a run: segments one after another, each followed by its evaluation."""

from __future__ import annotations

import logging

from core.evaluation.metrics import value
from core.pipeline.views import View, evaluation_row
from core.store.manifest import Manifest
from flows.execution import Execution
from flows.walking import Trained, metrics_of, stops

log = logging.getLogger(__name__)


def train_and_evaluate(run: Execution, view: View, parts: Manifest, encoded: Manifest) -> Trained:
    """Train to the last step, or until early stopping says so, going by steps and never by arrival."""
    data = run.folder(encoded)
    steps = run.pipeline.plan(data)
    trained = Trained({}, {}, [])
    _evaluate(run, view, parts, trained, 0)
    parent: Manifest | None = None
    for part in run.pipeline.segments(steps):
        stage = run.pipeline.train(part, steps, parent, data)
        parent = run.do_built(stage, "student_phase/train_history.jsonl")
        trained.checkpoints[part.stop] = parent
        view.train(parent)
        if part.evaluate:
            _evaluate(run, view, parts, trained, part.stop)
            if stops(run, trained):
                log.info("early stopping after step %d of %d", part.stop, len(steps))
                break
    return trained


def _evaluate(run: Execution, view: View, parts: Manifest, trained: Trained, step: int) -> None:
    stage = run.pipeline.evaluate(parts, trained.checkpoints.get(step), step)
    file = f"student_phase/metrics_val_step_{step}.json"
    manifest = run.do_built(stage, file)
    metrics = metrics_of(run, manifest)
    trained.add(step, manifest, metrics)
    checkpoint = trained.checkpoints.get(step)
    view.evaluate(step, evaluation_row(manifest, checkpoint, parts, metrics, step, run.resolved.run_name))
    chosen_by = run.config.evaluation.metric
    log.info(
        "step %d on val: %s %s, AUROC %s, log loss %s, invalid %s",
        step,
        chosen_by,
        *(_shown(value(metrics, m)) for m in (chosen_by, "auroc", "log_loss", "invalid_label_rate")),
    )
    rate = metrics.invalid_label_rate
    if step > 0 and rate is not None and rate > run.config.evaluation.invalid_warn_rate:
        log.warning("step %d: %.0f %% of val has no valid label at the label's place", step, 100 * rate)


def _shown(number: float | None) -> str:
    return "undefined" if number is None else f"{number:.4f}"


def recorded(run: Execution) -> Trained:
    """What the run's record says was trained and evaluated, without training anything."""
    trained = Trained({}, {}, [])
    slots = sorted(
        (int(slot.partition("/")[2]), slot) for slot in run.view.stages() if slot.startswith("train/")
    )
    for step, slot in slots:
        trained.checkpoints[step] = run.view.earlier(slot, file="student_phase/train_history.jsonl")
    for step in (0, *trained.checkpoints):
        slot = f"evaluate/{step}"
        if slot in run.view.stages():
            manifest = run.view.earlier(slot, file=f"student_phase/metrics_val_step_{step}.json")
            trained.add(step, manifest, metrics_of(run, manifest))
    return trained
