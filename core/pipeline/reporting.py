"""Writes the last files of a run: predictions, metrics, manifests, report, summary, pointer."""

from __future__ import annotations

import json
from typing import Any

from core.data.writing import read_examples
from core.evaluation.metrics import from_json
from core.evaluation.stage import SCORES, read_scores
from core.export import curve, manifests, predictions, report
from core.export.manifests import Measured, Output
from core.export.pointer import Pointer
from core.export.summary import RunSummary
from core.pipeline import outcome
from core.pipeline.outcome import Outcome
from core.pipeline.views import adapter_path, fingerprints, state_path
from core.pipeline.workbench import Workbench
from core.records import SplitName
from core.store import pointers
from core.store.clock import now
from core.store.manifest import Manifest
from core.store.runs import RunView

REPORT = "test_report.md"
UNTRAINED = "the base model"


def write_exports(o: Outcome, view: RunView, folder: str = "student_phase") -> None:
    """{split}.json, metrics_{split}.json and manifest.json, and the same for the label-only mode."""
    for label_only, measured in ((False, o.reasoning), (True, o.label_only)):
        outputs: dict[SplitName, Output] = {}
        for split, manifest in measured.items():
            outputs[split] = _split(o, view, folder, split, manifest, label_only=label_only)
        if measured:
            _manifest(o, view, folder, measured["val"], outputs, label_only=label_only)


def _split(
    o: Outcome, view: RunView, folder: str, split: SplitName, manifest: Manifest, *, label_only: bool
) -> Output:
    of = _measured(o, manifest)
    found = o.metrics(manifest)
    place = f"{folder}/{manifests.metrics_name(split, label_only=label_only)}"
    if label_only:
        view.write_json(place, manifests.split_metrics_label_only(of, split, found))
        return Output(place)
    shown = f"{folder}/{split}.json"
    examples = read_examples(o.store.file(o.parts, f"{split}.csv"))
    scored = read_scores(o.store.file(manifest, SCORES))
    with view.replacing(shown) as path:
        predictions.write(path, predictions.records(split, examples, scored, found.decision_threshold))
    view.write_json(place, manifests.split_metrics(of, split, found, shown))
    return Output(place, shown)


def _manifest(
    o: Outcome,
    view: RunView,
    folder: str,
    val: Manifest,
    outputs: dict[SplitName, Output],
    *,
    label_only: bool,
) -> None:
    build = manifests.manifest_label_only if label_only else manifests.manifest
    threshold = o.metrics(val).decision_threshold
    content = build(_measured(o, val), threshold, outputs)
    view.write_json(f"{folder}/{manifests.manifest_name(label_only=label_only)}", content)


def _measured(o: Outcome, manifest: Manifest) -> Measured:
    path = adapter_path(o.checkpoint, o.home) or UNTRAINED
    return Measured(manifest.created_at, o.run, path, fingerprints(o.parts, manifest))


def write_report(o: Outcome, view: RunView) -> str:
    """The curve, test_report.md and run_summary.json; returns where the report is."""
    baselines = {b["title"]: from_json(b["metrics"]["val"]) for b in o.baselines().values()}
    with view.replacing("student_phase/learning_curve.png") as path:
        curve.draw(
            outcome.curve_points(o),
            o.selection.metric,
            path,
            losses=outcome.losses(o),
            baselines=baselines,
            chosen=o.selection.step,
        )
    written = view.write(REPORT, report.render(outcome.report_inputs(o)))
    found = outcome.ledger(o)
    view.write_json("ledger.json", found)
    home = None if o.home is None else {"output_dir": "student_phase/adapter", **o.home.summary}
    summary = {**_summary(o), "ledger": found, "adapter_downloads": {"best_val": home}}
    view.write_json("run_summary.json", summary)
    return written


def _summary(o: Outcome) -> dict[str, Any]:
    best = next(point for point in o.curve if point.step == o.selection.step)
    teacher = o.json(o.kept, "teacher_summary.json")
    test = {"student": o.reasoning, "label_only": o.label_only}
    summary = RunSummary(
        run_dir=f"runs/{o.run}",
        teacher_dir=f"runs/{o.run}/teacher_phase",
        report_path=f"runs/{o.run}/{REPORT}",
        final_model_path=adapter_path(o.final),
        best_model_path=adapter_path(o.checkpoint, o.home) or UNTRAINED,
        resume_state_path=state_path(o.final),
        selection=o.selection,
        best_val=best.metrics,
        teacher_summary={k: v for k, v in teacher.items() if k != "funnel"},
        sizes={name: {"rows": rows, "positive": positive} for name, rows, positive in outcome.sizes(o)},
        test={name: o.metrics(by["test"]) for name, by in test.items() if "test" in by},
        untrained={name: o.metrics(m) for name, m in o.untrained.items()},
        baselines=o.baselines(),
        funnel=teacher["funnel"],
        timings=outcome.seconds(o),
    )
    return summary.to_json()


def publish(o: Outcome, view: RunView, bench: Workbench) -> list[str]:
    """model/<run>.json and model/latest.json, after everything they name exists."""
    val = o.reasoning.get("val") or o.label_only["val"]
    metrics = manifests.metrics_name(o.split, label_only=not o.reasoning)
    pointer = Pointer(
        saved_at=now(),
        run_name=o.run,
        final_model_path=adapter_path(o.final),
        best_model_path=adapter_path(o.checkpoint, o.home) or UNTRAINED,
        resume_state_path=state_path(o.final),
        best_step=o.selection.step,
        threshold=o.metrics(val).decision_threshold,
        metrics_path=f"runs/{o.run}/student_phase/{metrics}",
        run_dir=f"runs/{o.run}",
        engine=o.config.student.engine,
        base_model=o.config.student.model,
        base_digest=o.base_digest,
        target=o.config.student.target,
        prompts_digest=bench.prompts.student_digest,
        server=bench.base.get("server"),
        sampler_path=adapter_path(o.checkpoint) if o.home is not None else None,
    )
    content = json.loads(json.dumps(pointer.to_json(), allow_nan=False))
    paths = (
        pointer.final_model_path,
        adapter_path(o.checkpoint, o.home),
        pointer.resume_state_path,
        pointer.metrics_path,
        f"{pointer.run_dir}/{REPORT}",
    )
    # What lies on a server was asked for there when it was made.
    here = [p for p in paths if p is not None and not p.startswith("tinker://")]
    return pointers.publish(o.store, o.run, content, here)
