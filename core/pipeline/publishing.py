"""Publish another scorer of a finished run: a baseline that does as well for less, or the student again."""

from __future__ import annotations

from core.data.stage import split as split_stage
from core.errors import CLASSICAL, MissingInputError, UserError
from core.evaluation.baselines import MODELS, baseline
from core.evaluation.decision import Decision
from core.export.baseline_stage import BaselineBundleSettings, bundle_baseline
from core.export.bundle import DECISION
from core.export.run_files import BaselinePointer, student_pointer
from core.export.stage import BUNDLE
from core.jsonio import Record, now
from core.pipeline.opening import run_config
from core.pipeline.run_context import STUDENT
from core.progress import LogProgress
from core.stage import build
from core.store import RunView, Store, pointers

SCORERS = ("student", *(name for name in CLASSICAL if name != "majority"))
"""What can be published. The majority class has no model."""


def publish_scorer(run: str, scorer: str, root: str = "artifacts") -> list[str]:
    """Publish a scorer of a finished run as the run's model, and as the latest; return the pointers.

    `predict --model RUN` then answers with it. The run itself stays as it is, and publishing its student
    again undoes this. Raises MissingInputError and UserError if the run has no such scorer.
    """
    if scorer not in SCORERS:
        raise UserError(f"--scorer {scorer}: unknown scorer; there are: {', '.join(SCORERS)}")
    view = RunView(Store.at(root), run)
    if not view.files():
        raise MissingInputError(f"run {run} does not exist at {view.where()}")
    needed, pointer = _student(view) if scorer == "student" else _baseline(view, scorer)
    return pointers.publish(view.store, run, pointer.to_json(), needed)


def _student(view: RunView) -> tuple[list[str], Record]:
    found = student_pointer(view)
    paths = (found.bundle_path, found.decision_path, found.metrics_path)
    return [path for path in paths if path is not None], found


def _baseline(view: RunView, scorer: str) -> tuple[list[str], BaselinePointer]:
    """Bundle a baseline, unless that was done before, and describe it."""
    settings = BaselineBundleSettings.of(run_config(view).config, scorer)
    fitted = view.earlier(baseline.name, file=baseline.shows)
    if not any(file.startswith(f"{MODELS}/{scorer}/") for file in fitted.files):
        raise MissingInputError(
            f"run {view.name} has no fitted {CLASSICAL[scorer]}: its report states why it was left out, "
            "baselines.encoder names the encoder of embeddings, and a run of an earlier version has to be "
            "repeated with the same config"
        )
    parts = view.earlier(split_stage.name, file=split_stage.shows)
    decision = view.earlier(f"decide/{scorer}", file=f"{DECISION} of {scorer}")
    call = bundle_baseline.call(settings, split=parts, baseline=fitted, decision=decision)
    built = build(view.store, call, LogProgress(call.label)).manifest
    view.record(call.slot, built, reused=False)
    ((inside, place),) = call.places.items()
    view.fill(built, {file: place + file.removeprefix(inside) for file in built.files})
    frozen = Decision.read(view.store.file(decision, DECISION))
    pointer = BaselinePointer(
        saved_at=now(),
        run_name=view.name,
        run_dir=f"runs/{view.name}",
        scorer=scorer,
        title=str(CLASSICAL[scorer]),
        encoder=settings.encoder,
        threshold=frozen.threshold,
        threshold_reason=frozen.reason,
        calibrator=frozen.calibrator,
        decision_path=f"{decision.folder}/{DECISION}",
        bundle_path=f"{built.folder}/{BUNDLE}",
    )
    return [pointer.bundle_path, pointer.decision_path, f"{pointer.run_dir}/{STUDENT.report}"], pointer
