"""Writes the last files of a run: predictions, metrics, manifests, report, summary, pointer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from core.bundle.stage import FOLDER as BUNDLE
from core.data.writing import read_examples
from core.evaluation.analysis import FILE as ANALYSIS
from core.evaluation.decision import DECISION
from core.evaluation.metrics import Metrics
from core.evaluation.threshold import rule
from core.export import manifests, predictions
from core.export.manifests import Measured, Output
from core.export.pointer import Pointer
from core.jsonio import now
from core.optional import Failures, Part
from core.pipeline import facts, outcome
from core.pipeline.outcome import Outcome
from core.pipeline.run_folder import adapter_path, fingerprints, state_path
from core.pipeline.scorers import Scorer
from core.provenance import current_code
from core.records import SplitName
from core.report import markdown, page
from core.report.data import ReportData
from core.report.document import run_report
from core.report.plots.training import save_learning_curve
from core.results import (
    AdapterDownload,
    AdapterDownloads,
    Ledger,
    RunResult,
    ScorerResult,
    StudentSetup,
    TeacherFigures,
)
from core.store import pointers
from core.store.runs import SUMMARY, RunView

REPORT = "test_report.md"
PAGE = "report.html"
CURVE = "student_phase/learning_curve.png"
UNTRAINED = "the base model"


def write_exports(o: Outcome, view: RunView, folder: str = "student_phase") -> None:
    """{split}.json, metrics_{split}.json and manifest.json, and the same for the label-only mode."""
    view.fill(o.analysis, {ANALYSIS: f"{folder}/{ANALYSIS}"})
    for mode in o.modes:
        label_only = mode.kind == "label_only"
        assert mode.decision is not None, "what is frozen for a student is an object"
        view.fill(mode.decision, {DECISION: f"{folder}/{manifests.decision_name(label_only=label_only)}"})
        outputs = {split: _split(o, view, folder, split, mode) for split in mode.rows}
        content = manifests.manifest(_measured(o, mode, "val"), outputs)
        view.write_json(f"{folder}/{manifests.manifest_name(label_only=label_only)}", content.to_json())


def _split(o: Outcome, view: RunView, folder: str, split: SplitName, mode: Scorer) -> Output:
    """Metrics and, but for the label-only mode, predictions."""
    label_only = mode.kind == "label_only"
    shown = None if label_only else f"{folder}/{split}.json"
    if shown is not None:
        examples = read_examples(o.store.file(o.parts, f"{split}.csv"))
        with view.replacing(shown) as path:
            scored, frozen = o.readings.rows(mode, split), o.readings.decision(mode)
            predictions.write(path, predictions.records(split, examples, scored, frozen))
    place = f"{folder}/{manifests.metrics_name(split, label_only=label_only)}"
    metrics, intervals = o.readings.metrics(mode, split), o.intervals(mode, split)
    content = manifests.split_metrics(_measured(o, mode, split), split, metrics, intervals, shown)
    view.write_json(place, content.to_json())
    paths: dict[str, Any] = {} if shown is None else {"predictions_path": shown}
    return Output(reused=False, metrics_path=place, **paths)


def _measured(o: Outcome, mode: Scorer, split: SplitName) -> Measured:
    manifest, path = mode.rows[split], adapter_path(o.checkpoint, o.home) or UNTRAINED
    return Measured(
        manifest.created_at,
        o.run,
        path,
        fingerprints(o.parts, manifest),
        o.readings.decision(mode),
        rule(o.config.evaluation.threshold),
    )


def write_report(o: Outcome, view: RunView) -> str:
    """report.html, test_report.md, the curve, the ledger and run_summary.json; returns where the report is.

    Of these, test_report.md and run_summary.json are essential. They come last, so that they list the
    optional parts that failed.
    """
    data, result = facts.report_of(o), _result(o)
    save_curve(data, view, CURVE, o.failures)
    place = "baseline_phase/baselines.json"
    write_optional_json(view, place, lambda: _compared(o), o.failures)
    write_documents(data, view, PAGE, REPORT, o.failures)
    ledger = write_ledger(data, view, "ledger.json", o.failures)
    last = {"ledger": ledger, "failed_parts": tuple(o.failures)}
    view.write_json(SUMMARY, result.model_copy(update=last).to_json())
    return view.where(page_of(o))


def write_documents(
    data: ReportData, view: RunView, page_at: str, markdown_at: str, failures: Failures
) -> None:
    """Write the report as a page, which is optional, and as Markdown, which lists what failed."""
    document = run_report(data, failures)
    with failures.optional(Part.PAGE):
        view.write(page_at, page.render(document, failures))
    view.write(markdown_at, markdown.render(document, failures))


def write_ledger(data: ReportData, view: RunView, place: str, failures: Failures) -> Ledger:
    """Write the ledger, which is optional, and return it; it is empty if it could not be computed."""
    ledger = data.ledger or Ledger()
    write_optional_json(view, place, ledger.to_json, failures)
    return ledger


def page_of(o: Outcome) -> str:
    """The report to look at: the page, or where it could not be written the Markdown."""
    return REPORT if Part.PAGE in o.failures else PAGE


def save_curve(data: ReportData, view: RunView, place: str, failures: Failures) -> None:
    """Write the learning curve as an image, which is optional."""
    with failures.optional(Part.PLOT, "learning curve as an image file"), view.replacing(place) as path:
        save_learning_curve(data, path)


def write_optional_json(view: RunView, place: str, make: Callable[[], Any], failures: Failures) -> None:
    """A file of the run's folder that nothing else depends on."""
    with failures.optional(Part.FILE, place):
        view.write_json(place, make())


def _result(o: Outcome) -> RunResult:
    """The run's result without what is only known once the reports are written: cost and failed parts."""
    teacher = o.teaching
    assert teacher is not None, "only reinforcement has no teacher's answers"
    figures = {name: getattr(teacher, name) for name in teacher.model_fields_set - {"funnel"}}
    best = next(point for point in o.curve if point.step == o.selection.step)
    return RunResult(
        run_dir=f"runs/{o.run}",
        teacher_dir=f"runs/{o.run}/teacher_phase",
        report_path=f"runs/{o.run}/{REPORT}",
        final_model_path=adapter_path(o.final),
        best_model_path=adapter_path(o.checkpoint, o.home) or UNTRAINED,
        resume_state_path=state_path(o.final),
        best_step=o.selection.step,
        best_val_macro_f1=best.metrics["macro_f1"],
        selection_metric=o.selection.metric,
        best_val_selection_score=o.selection.score,
        best_val_selection_metric_value=o.selection.value,
        beats_untrained=o.selection.beats_untrained,
        selection_reason=o.selection.reason,
        teacher_summary=TeacherFigures(**figures),
        sizes=facts.sizes(o),
        test={mode.name: o.readings.metrics(mode, "test") for mode in o.modes if "test" in mode.rows},
        untrained=o.failures.attempt(Part.FACTS, "untrained", lambda: _untrained(o), dict),
        baselines=o.failures.attempt(Part.FACTS, "baselines", lambda: _baselines(o), dict),
        funnel=teacher.funnel,
        timings=outcome.seconds(o),
        adapter_downloads=AdapterDownloads(best_val=_download(o)),
        student=StudentSetup(
            engine=o.config.student.engine.kind,
            base_model=o.config.student.model,
            target=o.config.student.target,
        ),
        made_by=current_code(),
    )


def _download(o: Outcome) -> AdapterDownload | None:
    if o.home is None:
        return None
    return AdapterDownload.model_validate({"output_dir": "student_phase/adapter", **o.home.summary})


def _untrained(o: Outcome) -> dict[SplitName, Metrics]:
    untrained = [s for s in o.others if s.name == "untrained"]
    return {split: o.readings.metrics(s, split) for s in untrained for split in s.rows}


def _compared(o: Outcome) -> dict[str, Any]:
    """The content of baselines.json."""
    return {name: found.to_json() for name, found in o.readings.summaries(o.others).items()}


def _baselines(o: Outcome) -> dict[str, ScorerResult]:
    return o.readings.summaries([s for s in o.others if s.kind == "baseline"])


def publish(o: Outcome, view: RunView) -> list[str]:
    """model/<run>.json and model/latest.json, after everything they name exists."""
    pointer = pointer_of(o)
    reports = {f"{pointer.run_dir}/{name}" for name in (REPORT, page_of(o))}
    return pointers.publish(o.store, o.run, pointer.to_json(), [*needed(o, pointer), *reports])


def pointer_of(o: Outcome) -> Pointer:
    """Where the chosen model is, and what is frozen of it."""
    mode = o.modes[0]
    assert mode.decision is not None, "what is frozen for a student is an object"
    frozen = o.readings.decision(mode)
    metrics = manifests.metrics_name(o.split, label_only=mode.kind == "label_only")
    return Pointer(
        saved_at=now(),
        run_name=o.run,
        final_model_path=adapter_path(o.final),
        best_model_path=adapter_path(o.checkpoint, o.home) or UNTRAINED,
        resume_state_path=state_path(o.final),
        best_step=o.selection.step,
        threshold=frozen.threshold,
        threshold_reason=frozen.reason,
        calibrator=frozen.calibrator,
        decision_path=f"{mode.decision.folder}/{DECISION}",
        metrics_path=f"runs/{o.run}/{o.phase.folder}/{metrics}",
        run_dir=f"runs/{o.run}",
        engine=o.config.student.engine.kind,
        base_model=o.config.student.model,
        base_digest=o.bench.base_digest,
        target=o.config.student.target,
        prompts_digest=o.bench.prompts.student_digest,
        server=o.bench.base.get("server"),
        sampler_path=adapter_path(o.checkpoint) if o.home is not None else None,
        bundle_path=None if o.bundle is None else f"{o.bundle.folder}/{BUNDLE}",
    )


def needed(o: Outcome, pointer: Pointer) -> list[str]:
    """What a pointer names under the root. What lies on a server was asked for there when it was made."""
    paths = (
        pointer.final_model_path,
        adapter_path(o.checkpoint, o.home),
        pointer.resume_state_path,
        pointer.metrics_path,
        pointer.decision_path,
        pointer.bundle_path,
    )
    return [p for p in paths if p is not None and not p.startswith("tinker://")]
