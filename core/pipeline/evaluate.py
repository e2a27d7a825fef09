"""Measure and export any checkpoint of a run, next to what the run exported itself."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from core.errors import MissingInputError
from core.evaluation.decision import select
from core.evaluation.student_scores import METRICS_FILE, read_metrics
from core.pipeline.exporting import export_checkpoint
from core.pipeline.outcome import Outcome
from core.pipeline.reporting import write_exports
from core.pipeline.run_folder import adapter_path
from core.pipeline.runners import Runner
from core.pipeline.training import Trained

HISTORY = "student_phase/train_history.jsonl"


def evaluate_checkpoint(run: Runner, checkpoint: str = "best") -> str:
    """Measure `checkpoint` (best, final, step_<n>, or the path of one of the run's adapters).

    Returns the folder with predictions and metrics. Nothing else of the run is changed, and nothing is
    published. Raises MissingInputError if the checkpoint does not exist.
    """
    view = run.view
    parts, trained = view.earlier("split", file="data_splits/train.csv"), recorded(run)
    chosen = select(trained.curve, run.config.evaluation.metric)
    step = _step(checkpoint, trained, chosen.step, run)
    exported = export_checkpoint(run, parts, trained, step, f"step_{step}")
    folder, selection = f"student_phase/step_{step}", dataclasses.replace(chosen, step=step)
    write_exports(Outcome(run, parts, trained, selection, exported), folder)
    return view.where(folder)


def recorded(run: Runner) -> Trained:
    """The training and the evaluations in the run's record."""
    trained, stages = Trained(), run.view.stages()
    for step in sorted(int(slot.partition("/")[2]) for slot in stages if slot.startswith("train/")):
        trained.checkpoints[step] = run.view.earlier(f"train/{step}", file=HISTORY)
    for step in (0, *trained.checkpoints):
        if f"evaluate/{step}" in stages:
            file = f"student_phase/metrics_val_step_{step}.json"
            manifest = run.view.earlier(f"evaluate/{step}", file=file)
            trained.add(step, manifest, run.read(manifest, METRICS_FILE, read_metrics))
    return trained


def _step(checkpoint: str, trained: Trained, best: int, run: Runner) -> int:
    """The step of a named checkpoint. Raises MissingInputError naming those that exist."""
    if checkpoint in ("best", "final"):
        return best if checkpoint == "best" else trained.last
    match = re.fullmatch(r"step_(\d+)", checkpoint)
    if match and (int(match[1]) in trained.checkpoints or match[1] == "0"):
        return int(match[1])
    path = checkpoint.rstrip("/")
    for step, manifest in trained.checkpoints.items():
        under_root = [p for p in (manifest.folder, adapter_path(manifest)) if p is not None]
        places = [run.store.where(p) for p in under_root]
        if path in (*under_root, *places) or str(Path(path).absolute()) in places:
            return step
    there = ", ".join(["best", "final", *(f"step_{s}" for s in (0, *trained.checkpoints))])
    raise MissingInputError(f"run {run.view.name} has no checkpoint {checkpoint}; there are {there}")
