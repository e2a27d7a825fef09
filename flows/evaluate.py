"""Measure and export any checkpoint of a run, beside what the run exported itself."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from prefect import flow

from core.errors import MissingInputError
from core.evaluation.selection import select
from core.pipeline.naming import run_config
from core.pipeline.reporting import write_exports
from core.pipeline.views import adapter_path
from core.store.manifest import Manifest
from core.store.objects import Store
from core.store.runs import RunView
from flows.execution import Execution, closing
from flows.exporting import export_checkpoint, outcome_of
from flows.logs import run_log
from flows.switches import Switches
from flows.training import recorded
from flows.walking import Trained


@flow(name="evaluate", persist_result=False)
def evaluate_checkpoint(run: str, root: str, checkpoint: str = "best") -> str:
    """Measure `checkpoint` (best, final, step_<n>, or the path of one of the run's adapters).

    Returns the folder with predictions and metrics. Nothing else of the run is changed, and
    nothing is published.
    """
    view = RunView(Store.open(root), run)
    run_config(view)  # before anything is waited for: whether there is such a run
    with view.store.lease(f"runs/{run}", f"run {run}"):
        resolved = run_config(view)  # whoever was at work may have begun the name anew
        with (
            run_log(view, resolved.config.run.log_level),
            closing(Execution(resolved, Switches(frozenset(), frozenset()), view)) as execution,
        ):
            return _evaluate(execution, checkpoint)


def _evaluate(run: Execution, checkpoint: str) -> str:
    view = run.view
    parts = view.earlier("split", file="data_splits/train.csv")
    trained = recorded(run)
    chosen = select(trained.curve, run.config.evaluation.metric)
    step = _step(checkpoint, trained, chosen.step, run)
    name = f"step_{step}"
    exported = export_checkpoint(run, parts, trained, step, who=name)
    outcome = outcome_of(
        run,
        parts,
        trained,
        dataclasses.replace(chosen, step=step),
        exported,
        kept=view.earlier("reject", file="teacher_phase/accepted_samples.jsonl"),
        encoded=view.earlier("encode", file="student_phase/train_sft.jsonl"),
    )
    folder = f"student_phase/{name}"
    write_exports(outcome, view, folder)
    return view.where(folder)


def _step(checkpoint: str, trained: Trained, best: int, run: Execution) -> int:
    """The step that a checkpoint's name means. Raises MissingInputError naming those there are."""
    named = {"best": best, "final": trained.last}
    if checkpoint in named:
        return named[checkpoint]
    match = re.fullmatch(r"step_(\d+)", checkpoint)
    if match and (int(match[1]) in trained.checkpoints or match[1] == "0"):
        return int(match[1])
    for step, manifest in trained.checkpoints.items():
        if _same(checkpoint, manifest, run):
            return step
    there = ", ".join(f"step_{s}" for s in (0, *trained.checkpoints))
    raise MissingInputError(
        f"run {run.view.name} has no checkpoint {checkpoint}; there are best, final, {there}"
    )


def _same(path: str, manifest: Manifest, run: Execution) -> bool:
    named = path.rstrip("/")
    under_root = [p for p in (manifest.folder, adapter_path(manifest)) if p is not None]
    places = [run.store.where(p) for p in under_root]
    return named in (*under_root, *places) or str(Path(named).absolute()) in places
