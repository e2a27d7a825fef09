"""Writes the last files of a run: predictions, metrics, manifests, report, summary, pointer."""

from __future__ import annotations

from typing import Any

from core.bundle.stage import FOLDER as BUNDLE
from core.errors import Part
from core.evaluation.analysis import FILE as ANALYSIS
from core.evaluation.decision import DECISION
from core.evaluation.metrics import Metrics
from core.evaluation.threshold import rule
from core.export.manifests import Pointer, ReinforcedPointer, SplitMetrics, file_name, metrics_name
from core.export.predictions import write_predictions
from core.jsonio import now
from core.pipeline.outcome import Outcome
from core.pipeline.report_data import report_of
from core.pipeline.run_folder import STUDENT, adapter_path, state_path
from core.pipeline.scorers import Scorer
from core.records import SplitName, read_examples
from core.report import render_markdown, render_page, run_report
from core.report.plots import save_learning_curve
from core.results import (
    AdapterDownload,
    AdapterDownloads,
    Ledger,
    ReinforcedVal,
    ReinforcementResult,
    RunResult,
    SelectedStep,
    StudentSetup,
    TeacherFigures,
)
from core.rl.rewards import RLSegmentSummary
from core.stage import action
from core.store import pointers
from core.store.run_view import current_code

CURVE = "learning_curve.png"
_RL_COUNTS = ("rollouts", "failed_rollouts", "groups", "groups_skipped", "steps_without_update")


@action("report")
def report(o: Outcome) -> str:
    """Write predictions, metrics, the report and the summary; returns where the report is."""
    write_exports(o)
    return write_report(o)


@action("rl-report")
def rl_report(o: Outcome) -> str:
    """As `report`, for a student that learned from rewards: all files are in rl_phase/."""
    write_exports(o)
    return write_report(o)


@action("publish")
def publish(o: Outcome) -> list[str]:
    """Replace model/<run>.json and model/latest.json, after everything they name exists."""
    return _publish(o, pointer_of(o), o.view.name, pointers.LATEST)


@action("rl-publish")
def rl_publish(o: Outcome) -> list[str]:
    """Replace model/<run>-rl.json and model/rl_latest.json, after everything they name exists."""
    pointer = ReinforcedPointer(
        **dict(pointer_of(o)),
        start=o.learned.start.result,
        best_val_macro_f1=o.trained.curve[o.selection.step]["macro_f1"],
        final_state_path=state_path(o.final),
    )
    return _publish(o, pointer, f"{o.view.name}-rl", "rl_latest")


def write_exports(o: Outcome, folder: str | None = None) -> None:
    """Write {split}.json, metrics_{split}.json and manifest.json, and the same for the label-only mode.

    `folder` is by default that of the phase.
    """
    folder = folder or o.phase.folder
    o.view.fill(o.exported.analysis, {ANALYSIS: f"{folder}/{ANALYSIS}"})
    for mode in o.exported.modes:
        _export(o, mode, folder)


def _export(o: Outcome, mode: Scorer, folder: str) -> None:
    """Write the files of one mode; the label-only mode has no predictions."""
    view, frozen, label_only = o.view, o.readings.decision(mode), mode.kind == "label_only"
    on_val = mode.rows["val"]
    common: dict[str, Any] = {
        "checkpoint_path": o.model_path,
        "dataset_fingerprint": o.parts.digest,
        "config_fingerprint": on_val.key,
        "decision_threshold_rule": rule(o.config.evaluation.threshold),
        "decision_threshold": frozen.threshold,
        "decision_threshold_reason": frozen.reason,
        "calibration": frozen.calibrator.kind,
    }
    at = {"generated_at": on_val.created_at, "run_name": view.name}
    outputs: dict[SplitName, dict[str, Any]] = {}
    for split, scored in mode.rows.items():
        place = f"{folder}/{metrics_name(split, label_only=label_only)}"
        shown: dict[str, Any] = {} if label_only else {"predictions_path": f"{folder}/{split}.json"}
        metrics = o.readings.metrics(mode, split)
        if not label_only:
            examples = read_examples(o.store.file(o.parts, f"{split}.csv"))
            with view.replacing(f"{folder}/{split}.json") as path:
                write_predictions(path, split, examples, o.readings.rows(mode, split), frozen)
        content = SplitMetrics(
            created_at=scored.created_at,
            split=split,
            n=metrics.rows,
            metrics=metrics,
            intervals=dict(o.intervals(mode, split)),
            **shown,
            **{**common, "config_fingerprint": scored.key},
        )
        view.write_json(place, content.to_json())
        outputs[split] = {"reused": False, **shown, "metrics_path": place}
    view.fill(mode.frozen, {DECISION: f"{folder}/{file_name('decision', label_only=label_only)}"})
    manifest = f"{folder}/{file_name('manifest', label_only=label_only)}"
    view.write_json(manifest, {**at, **common, "outputs": outputs})


def write_report(o: Outcome) -> str:
    """Write the page, the Markdown report, the curve, the ledger and the summary; returns where the page is.

    Of these, the Markdown report and the summary are essential. They come last, so that they list the
    optional parts that failed.
    """
    data, view, phase = report_of(o), o.view, o.phase
    result = _run_result(o) if o.reinforcement is None else _reinforcement_result(o)
    place = f"{phase.folder}/{CURVE}"
    with o.failures.optional(Part.PLOT, "learning curve as an image file"), view.replacing(place) as path:
        save_learning_curve(data, path)
    if phase is STUDENT:
        with o.failures.optional(Part.FILE, "baseline_phase/baselines.json"):
            scorers = {name: s.to_json() for name, s in o.readings.results(o.exported.others).items()}
            view.write_json("baseline_phase/baselines.json", scorers)
    document = run_report(data, o.failures)
    with o.failures.optional(Part.PAGE):
        view.write(phase.page, render_page(document, o.failures))
    view.write(phase.report, render_markdown(document, o.failures))
    ledger = data.ledger or Ledger()
    with o.failures.optional(Part.FILE, phase.ledger):
        view.write_json(phase.ledger, ledger.to_json())
    last = {"ledger": ledger, "failed_parts": tuple(o.failures)}
    view.write_json(phase.summary, result.model_copy(update=last).to_json())
    return view.where(page_of(o))


def page_of(o: Outcome) -> str:
    """The report to look at: the page, or the Markdown if the page could not be written."""
    return o.phase.report if Part.PAGE in o.failures else o.phase.page


def _run_result(o: Outcome) -> RunResult:
    """The run's result without what is only known once the reports are written: cost and failed parts."""
    teacher, run, others = o.teacher_summary(), f"runs/{o.view.name}", o.exported.others
    measured = [s for s in others if s.name == "untrained"]
    baselines = [s for s in others if s.kind == "baseline"]
    assert teacher is not None, "only reinforcement has no teacher's answers"
    student, chosen = o.config.student, o.selection
    download = None
    if o.home is not None:
        found = AdapterDownload.from_json(o.home.summary, o.home.path)
        download = found.model_copy(update={"output_dir": f"{STUDENT.folder}/adapter"})
    return RunResult(
        run_dir=run,
        teacher_dir=f"{run}/teacher_phase",
        report_path=f"{run}/{STUDENT.report}",
        final_model_path=adapter_path(o.final),
        best_model_path=o.model_path,
        resume_state_path=state_path(o.final),
        best_step=chosen.step,
        best_val_macro_f1=o.trained.curve[chosen.step]["macro_f1"],
        selection_metric=chosen.metric,
        best_val_selection_score=chosen.score,
        best_val_selection_metric_value=chosen.value,
        beats_untrained=chosen.beats_untrained,
        selection_reason=chosen.reason,
        teacher_summary=TeacherFigures.of(teacher),
        sizes=o.sizes(),
        test=_on_test(o),
        untrained=o.failures.attempt(
            Part.FACTS,
            "untrained",
            lambda: {split: o.readings.metrics(s, split) for s in measured for split in s.rows},
            dict,
        ),
        baselines=o.failures.attempt(Part.FACTS, "baselines", lambda: o.readings.results(baselines), dict),
        funnel=teacher.funnel,
        timings=o.seconds(),
        adapter_downloads=AdapterDownloads(best_val=download),
        student=StudentSetup(engine=student.engine.kind, base_model=student.model, target=student.target),
        made_by=current_code(),
    )


def _on_test(o: Outcome) -> dict[str, Metrics]:
    return {m.name: o.readings.metrics(m, "test") for m in o.exported.modes if "test" in m.rows}


def _reinforcement_result(o: Outcome) -> ReinforcementResult:
    """The result of reinforcement without what is only known once the reports are written."""
    of, chosen = o.learned, o.selection
    others = [s for s in o.exported.others if "test" in s.rows and not s.labels_only]
    segments = [RLSegmentSummary.from_json(m.summary, m.path) for m in o.trained.segments]
    return ReinforcementResult(
        start=of.start.result,
        steps=o.trained.last,
        steps_planned=of.planned,
        best_step=chosen.step,
        selection=SelectedStep(metric=chosen.metric, value=chosen.value, reason=chosen.reason),
        best_model_path=o.model_path,
        final_model_path=adapter_path(o.final),
        final_state_path=state_path(o.final),
        val=ReinforcedVal(start=o.trained.curve[0], best=o.trained.curve[chosen.step]),
        val_reward={str(step): rewards.reward_mean for step, rewards in of.rewards.items()},
        **{count: sum(getattr(s, count) for s in segments) for count in _RL_COUNTS},
        test=_on_test(o),
        compared=o.failures.attempt(
            Part.FACTS, "compared", lambda: {s.name: o.readings.metrics(s, "test") for s in others}, dict
        ),
    )


def pointer_of(o: Outcome) -> Pointer:
    """Where the chosen model is, and its frozen decision."""
    frozen, student, run = o.readings.decision(o.first), o.config.student, f"runs/{o.view.name}"
    metrics = metrics_name(o.exported.split, label_only=o.first.kind == "label_only")
    return Pointer(
        saved_at=now(),
        run_name=o.view.name,
        final_model_path=adapter_path(o.final),
        best_model_path=o.model_path,
        resume_state_path=state_path(o.final),
        best_step=o.selection.step,
        threshold=frozen.threshold,
        threshold_reason=frozen.reason,
        calibrator=frozen.calibrator,
        decision_path=f"{o.first.frozen.folder}/{DECISION}",
        metrics_path=f"{run}/{o.phase.folder}/{metrics}",
        run_dir=run,
        engine=student.engine.kind,
        base_model=student.model,
        base_digest=o.context.base_digest,
        target=student.target,
        prompts_digest=o.context.prompts.student_digest,
        server=o.context.engine.identity.server,
        sampler_path=adapter_path(o.exported.checkpoint) if o.home is not None else None,
        bundle_path=None if o.bundle is None else f"{o.bundle.folder}/{BUNDLE}",
    )


def _publish(o: Outcome, pointer: Pointer, name: str, latest: str) -> list[str]:
    """Publish a pointer after what it names under the root; a server was asked for its files before."""
    paths = (
        pointer.final_model_path,
        adapter_path(o.exported.checkpoint, o.home),
        pointer.resume_state_path,
        pointer.metrics_path,
        pointer.decision_path,
        pointer.bundle_path,
        *sorted({f"{pointer.run_dir}/{file}" for file in (o.phase.report, page_of(o))}),
    )
    needed = [p for p in paths if p is not None and "://" not in p]
    return pointers.publish(o.store, name, pointer.to_json(), needed, latest=latest)
