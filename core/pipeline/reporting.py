"""The last files of a run: predictions, metrics, manifests, report, summary, pointer."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib import metadata
from typing import Any, TypeVar

from core import jsonio
from core.errors import Part
from core.evaluation.analysis import FILE as ANALYSIS
from core.evaluation.decision import DECISION, Decided
from core.evaluation.predictions import Predictions
from core.evaluation.slices import HARDNESS, HardTexts
from core.evaluation.student_scores import EXPLAINED, ScoringSummary
from core.evaluation.threshold import rule
from core.export.run_files import (
    STUDENT_POINTER,
    Pointer,
    ReinforcedPointer,
    SplitMetrics,
    file_name,
    metrics_name,
    write_predictions,
)
from core.jsonio import now
from core.pipeline.exporting import StudentMode
from core.pipeline.opening import missing_seeds, seed_results
from core.pipeline.outcome import Outcome, pointer_of, reinforcement_result, run_result
from core.pipeline.plan_runners import read_estimate
from core.pipeline.run_context import STUDENT
from core.pipeline.training_loop import adapter_path, state_path
from core.records import SplitName, read_examples
from core.report import (
    Mistake,
    ModelBlock,
    Reinforced,
    ReportData,
    SeedResult,
    plural,
    render_markdown,
    render_page,
    run_report,
    were,
)
from core.report.plots import save_learning_curve
from core.report.scorer_sections import worst
from core.results import Ledger
from core.rl.rewards import RLStep
from core.rl.stages import STEPS
from core.stage import action
from core.store import pointers
from core.store.run_view import current_code, find_test_reads
from core.student.encode_stage import SUMMARY_FILE as ENCODED
from core.student.encode_stage import EncodeSummary
from core.student.train_stage import STEPS_FILE, read_steps

CURVE = "learning_curve.png"
_Fact = TypeVar("_Fact")
_SETTINGS = {"resolved_config.yaml": "every setting and where it comes from"}
_FILES = {
    "student_phase/analysis.json": "every figure of the tables and plots",
    "student_phase/eval_history.jsonl": "every checkpoint on val",
    "student_phase/learning_curve.png": "the curve as a picture",
    "student_phase/bundle": "all that a deployment needs, for understudy predict, with a model card",
    "teacher_phase/rejected_samples.jsonl": "rejected answers, with every rule's verdict",
    "teacher_phase/hard_examples.jsonl": "texts whose every answer was rejected, with the reasons",
    "split_summary.json": "counts of the data: rows used, left out, duplicate",
    **_SETTINGS,
}
_RL_FILES = {
    "rl_phase/analysis.json": "every figure of the tables and plots",
    "rl_phase/rl_history.jsonl": "every step: rewards, groups, loss, tokens, seconds",
    "rl_phase/rollouts.jsonl": "answers of each step with what they earned",
    "rl_phase/eval_history.jsonl": "every checkpoint on val",
    "rl_phase/reinforce.json": "the settings and the start",
    **_SETTINGS,
}


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
    pointer = pointer_of(o)
    o.view.write_json(STUDENT_POINTER, pointer.to_json())
    return _publish(o, pointer, o.view.name, pointers.LATEST)


@action("rl-publish")
def rl_publish(o: Outcome) -> list[str]:
    """Replace model/<run>-rl.json and model/rl_latest.json, after everything they name exists."""
    pointer = ReinforcedPointer(
        **dict(pointer_of(o)),
        start=o.learned.start.result,
        best_val_macro_f1=o.trained.curve[o.selection.step].macro_f1,
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
        _export_mode(o, mode, folder)


def _export_mode(o: Outcome, mode: StudentMode, folder: str) -> None:
    """Write the files of one mode; the label-only mode has no predictions."""
    view, frozen, label_only = o.view, o.readings.decision(mode), mode.kind == "label_only"
    common: dict[str, Any] = {
        "checkpoint_path": o.model_path,
        "dataset_fingerprint": o.parts.digest,
        "config_fingerprint": mode.val.key,
        "decision_threshold_rule": rule(o.config.evaluation.threshold),
        "decision_threshold": frozen.threshold,
        "decision_threshold_reason": frozen.reason,
        "calibration": frozen.calibrator.kind,
    }
    at = {"generated_at": mode.val.created_at, "run_name": view.name}
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
    view.fill(mode.decision, {DECISION: f"{folder}/{file_name('decision', label_only=label_only)}"})
    manifest = f"{folder}/{file_name('manifest', label_only=label_only)}"
    view.write_json(manifest, {**at, **common, "outputs": outputs})


def write_report(o: Outcome) -> str:
    """Write the page, the Markdown report, the curve, the ledger and the summary; returns where the page is.

    Of these, the Markdown report and the summary are essential. They come last, so that they list the
    optional parts that failed.
    """
    data, view, phase = report_of(o), o.view, o.phase
    result = run_result(o) if o.reinforcement is None else reinforcement_result(o)
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


def report_of(o: Outcome) -> ReportData:
    """Return the values of the report; optional ones that cannot be read are recorded as failures."""
    store, exported = o.store, o.exported

    def optional(what: str, make: Callable[[], _Fact], otherwise: Callable[[], _Fact]) -> _Fact:
        return o.failures.attempt(Part.FACTS, what, make, otherwise)

    losses, measured, missing = list[tuple[int, float]](), list[SeedResult](), list[str]()
    if o.reinforcement is None:  # rewards have no loss, and are learned with one seed
        for segment in o.trained.segments:
            losses += [(s.step + 1, s.loss) for s in read_steps(store.file(segment, STEPS_FILE))]
        if (encoded := o.encoded) is not None:
            at, label_only = (
                (store, o.view.name, o.config, encoded, exported.split),
                o.first.kind == "label_only",
            )
            measured = optional("other seeds", lambda: seed_results(*at, label_only=label_only), list)
        missing = missing_seeds(o.config, measured)
    baselines = [s for s in exported.others if s.kind == "baseline"]
    return ReportData(
        run_name=o.view.name,
        generated_at=now(),
        config=o.config,
        analysis=o.analysis,
        decisions=_decisions(o),
        selection=o.selection,
        curve=dict(sorted(o.trained.curve.items())),
        sizes=o.sizes(),
        models=_models(o),
        losses=losses,
        val_baselines=optional(
            "baselines on val", lambda: {s.title: o.readings.metrics(s, "val") for s in baselines}, dict
        ),
        teacher=o.teacher_summary,
        hardness=optional(
            "hard texts", lambda: [HardTexts.read(store.file(m, HARDNESS)) for m in o.hard.values()], list
        ),
        ledger=optional("ledger", o.ledger, lambda: None),
        estimate=optional(
            "cost estimate", lambda: None if o.reinforcement else read_estimate(o.view), lambda: None
        ),
        notices=optional("notices", lambda: _notices(o), list),
        resume_state_path=state_path(o.final),
        mistakes=optional("worst errors", lambda: _mistakes(o), list),
        reads=optional(
            "reads of test",
            lambda: find_test_reads(store, o.parts) if exported.split == "test" else [],
            list,
        ),
        seeds=measured,
        reinforced=_reinforced(o),
        untested=missing,
        provenance=optional("provenance", lambda: _provenance(o), list),
        files=_files(o),
    )


def _decisions(o: Outcome) -> dict[str, Decided]:
    """Decisions by scorer; only those of the student are essential."""
    found = o.readings.decided(o.exported.modes)
    for scorer in o.exported.others:
        with o.failures.optional(Part.FACTS, f"decision of {scorer.name}"):
            found |= o.readings.decided([scorer])
    return found


def _reinforced(o: Outcome) -> Reinforced | None:
    if (of := o.reinforcement) is None:
        return None
    history = [
        RLStep.from_json(row, f"{m.path}/{STEPS}")
        for m in o.trained.segments
        for row in jsonio.read_jsonl(o.store.file(m, STEPS))
    ]
    return Reinforced(str(of.start), of.planned, history, of.rewards)


def _mistakes(o: Outcome) -> list[Mistake]:
    """The worst errors, with the student's reasoning about them if it was asked."""
    split, explained = o.exported.split, o.exported.explained
    scored = o.readings.rows(o.first, split)
    if explained is not None:
        scored = scored.with_generated(Predictions.read(o.store.file(explained, EXPLAINED)))
    examples = read_examples(o.store.file(o.parts, f"{split}.csv"))
    return worst(examples, scored, o.readings.decision(o.first), o.context.rulebook.ids)


def _models(o: Outcome) -> list[ModelBlock]:
    # Those of the tables: without rows that a server failed on for another scorer.
    metrics = o.analysis.with_probabilities[o.first.name].metrics
    is_final = o.final is not None and o.selection.step == o.trained.last
    best = adapter_path(o.exported.checkpoint, o.home) or "the base model, without an adapter"
    return [
        ModelBlock("final model", adapter_path(o.final) or "none was trained", metrics if is_final else None),
        ModelBlock("best-val model", best, metrics),
    ]


def _files(o: Outcome) -> dict[str, str]:
    label_only, folder, split = o.first.kind == "label_only", o.phase.folder, o.exported.split
    about = f"the student's answer to each {split} text, with probability and decision"
    return {
        o.phase.page: "this report with its plots and the worst errors with their texts",
        **({} if label_only else {f"{folder}/{split}.json": about}),
        f"{folder}/{file_name('decision', label_only=label_only)}": (
            "calibration and threshold, and how they were fitted on val"
        ),
        **(_FILES if o.reinforcement is None else _RL_FILES),
    }


def _notices(o: Outcome) -> list[str]:
    """Sentences on rows left out, truncated texts and skewed rejection."""
    modes, teacher = o.exported.modes, o.teacher_summary
    out = [*o.split_summary.notices, *([] if teacher is None else teacher.notices)]
    if len(modes) > 1 and modes[1].name not in o.analysis.scorers:
        out.insert(0, "the label-only prompt is the student's own, so no table has it twice")
    if o.encoded is not None:
        encoded = EncodeSummary.read(o.store.file(o.encoded, ENCODED))
        if (given := encoded.rationales).kind == "shuffled":
            out.append(
                "the student learned each text with the rationale of another text of its label, as a "
                f"control; {given.own:,} of {plural(given.samples, 'sample')} kept one of its own text, and "
                f"{given.same_words:,} one that reads as its own"
            )
        if encoded.cut_texts:
            tokens = plural(encoded.cut_tokens, "token")
            out.append(f"{were(encoded.cut_texts, 'training text')} truncated, by {tokens} in all")
        if encoded.dropped:
            out.append(f"{were(encoded.dropped, 'accepted sample')} dropped: {encoded.dropped_reason}")
    for name, manifest in o.first.rows.items():
        scored = ScoringSummary.from_json(manifest.summary, manifest.path)
        if scored.cut_texts:
            out.append(f"{name}: {were(scored.cut_texts, 'text')} truncated to fit the prompt")
        if scored.failed_rows:
            failed = were(scored.failed_rows, "text")
            out.append(f"{name}: {failed} not scored by the server, and no metric counts them")
        if scored.bounded_rows:
            bounded = plural(scored.bounded_rows, "text")
            out.append(
                f"{name}: the server did not list a label of {bounded}, so its probability is an upper bound"
            )
    return out


def _provenance(o: Outcome) -> list[tuple[str, str]]:
    code, checkpoint = current_code(), o.exported.checkpoint
    splits = [f"{name}.csv" for name in o.sizes()]
    return [
        ("understudy", code.version or ""),
        ("commit", code.commit or ""),
        ("python", platform.python_version()),
        *((name, metadata.version(name)) for name in o.config.student.engine.packages),
        *((name, o.parts.files[name].sha256) for name in splits),
        ("base model", o.context.base_digest),
        ("prompts", o.context.prompts.student_digest),
        ("rulebook", o.context.rulebook.digest),
        *([] if o.kept is None else [("accepted answers", o.kept.digest)]),
        *([] if checkpoint is None else [("chosen checkpoint", checkpoint.digest)]),
        ("analysis", o.exported.analysis.digest),
    ]
