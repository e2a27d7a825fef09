"""The main pipeline: texts and rules in, a measured student out; and its baselines alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from core.config import ConfigSection
from core.data.stage import SplitSettings, split
from core.errors import Part, StageError, UserError
from core.evaluation.analysis import FILE as ANALYSIS
from core.evaluation.analysis import Analysis, analyse
from core.evaluation.decision import select
from core.evaluation.slices import HardnessSettings, hardness
from core.evaluation.student_scores import MeasureSettings, evaluate
from core.evaluation.threshold import rule
from core.jsonio import now
from core.pipeline.exporting import (
    Scorer,
    analyse_scorers,
    bundle_student,
    check_label_only_run,
    compare_baselines,
    export_checkpoint,
)
from core.pipeline.outcome import Outcome, ScorerReader
from core.pipeline.plan_runners import estimate, note_estimate
from core.pipeline.reporting import publish, report, rl_publish, rl_report
from core.pipeline.run_context import RL, STUDENT, is_rl
from core.pipeline.runners import SWITCHES, Runner
from core.pipeline.training_loop import (
    Histories,
    Trained,
    planned_segments,
    planned_steps,
    train_and_evaluate,
)
from core.records import SplitName
from core.rejection.stage import RejectSettings, ensure_usable, reject
from core.report import BaselineData, baseline_report, render_markdown
from core.report.run_sections import dropped
from core.stage import Stage, action
from core.store import Manifest
from core.student.encode_stage import EncodeStageSettings, EncodeSummary, encode
from core.student.train_stage import PlannedSegment, train
from core.teacher.samples import SampleSummary
from core.teacher.stage import SUMMARY_FILE, SampleSettings, sample

log = logging.getLogger(__name__)
_FOLDER = "baseline_phase"
BASELINE_REPORT = f"{_FOLDER}/baseline_report.md"
_UNTRAINED = ("untrained_rulebook", "untrained")
"""Scorers for metrics_<split>.json: the first of these that was measured."""


def distill(run: Runner) -> Outcome | None:
    """Run every stage in order; returns None if the last stages are switched off."""
    config, last = run.config, run.switches.last
    histories = Histories(run.view, run.trackers)
    run.context.preflight(online=run.executes)
    require_inputs(run)
    check_label_only_run(run)

    parts = run.stage(split, SplitSettings.of(config))
    if last == "split":
        return None
    check_label_only_run(run, parts)

    answers = run.stage(sample, SampleSettings.of(config), split=parts)
    labels = label_splits(run, parts)
    if last == "sample":
        return None

    kept = run.stage(reject, RejectSettings.of(config), split=parts, sample=answers)
    if run.exists(kept):
        histories.teacher(kept)
        ensure_usable(dict(kept.summary))
    if last == "reject":
        return None

    encoded = run.stage(encode, EncodeStageSettings.for_training(config.student, config.seed), reject=kept)
    if run.exists(encoded):
        lost = dropped(EncodeSummary.from_json(encoded.summary, encoded.path))
        if lost is not None:
            log.warning("%s", lost)
    if run.executes and run.context.capabilities.metered:
        with run.optional(Part.ESTIMATE):
            note_estimate(run.view, estimate(distill, run))
    if last == "encode":
        return None

    trained = train_and_evaluate(run, histories, parts, encoded)
    if last == "train":
        return None
    chosen = select(trained.curve, config.evaluation.metric)
    log.log(logging.INFO if run.executes else logging.DEBUG, "%s", chosen.reason)
    if last == "evaluate":
        return None

    others = compare_baselines(run, parts, trained, labels)
    exported = export_checkpoint(run, parts, trained, chosen.step, "student", others)
    hard = analyse_hard_texts(run, parts, {"train": kept, **labels}, exported.modes[0])
    home, bundled = bundle_student(run, parts, exported, kept=kept, encoded=encoded)
    return conclude(run, Outcome(run, parts, trained, chosen, exported, home, bundled, kept, encoded, hard))


def label_splits(run: Runner, parts: Manifest) -> dict[SplitName, Manifest]:
    """The teacher's answers to each split in teacher.label_splits; one that fails is left out."""
    found: dict[SplitName, Manifest] = {}
    for name in run.config.teacher.label_splits:
        call = run.call(sample, SampleSettings.of(run.config, name), split=parts)
        with run.optional(Part.TEACHER, name):
            run.do(call)
        if call.slot in run.used:  # also if only the files in the run's folder could not be written
            found[name] = run.used[call.slot]
    return found


def analyse_hard_texts(
    run: Runner, parts: Manifest, answers: dict[SplitName, Manifest], student: Scorer
) -> dict[SplitName, Manifest]:
    """The student's results on texts that were hard for the teacher, by split; one that fails is left out.

    `answers` are of the reject stage for train and of the sample stage for other splits. For gold labels no
    text is hard.
    """
    found: dict[SplitName, Manifest] = {}
    for name, of in answers.items() if run.config.teacher.kind != "gold" else ():
        with run.optional(Part.HARDNESS, name):
            scored = {}
            if name in student.rows:
                scored = {"scored": student.rows[name], "decision": student.decision}
            at, settings = {"who": "student"}, HardnessSettings.of(run.config, name)
            found[name] = run.stage(hardness, settings, at, split=parts, answers=of, **scored)
    return found


def conclude(run: Runner, outcome: Outcome) -> Outcome:
    """Write the report, and publish the student if the config asks for it; of either phase."""
    stages, rl = run.view.stages(), outcome.phase is RL
    run.view.keep_only(slot for slot in stages if slot in run.used or is_rl(slot) is not rl)
    perform_report(run, outcome)
    if run.config.publish:
        run.perform(rl_publish if rl else publish, outcome)
    return outcome


def perform_report(run: Runner, outcome: Outcome) -> None:
    """Write the reports, the summary and the exported files; also again, when more is known."""
    run.perform(rl_report if outcome.phase is RL else report, outcome)


def require_inputs(run: Runner) -> None:
    """Check, before any work, that stages which are off have the earlier objects that later ones need.

    Raises MissingInputError naming the run and the file. A plan shows such stages instead.
    """
    if not run.executes:
        return
    config, last, stopping = run.config, run.switches.last, run.config.evaluation.early_stopping is not None
    off = run.switches.off & set(SWITCHES[: SWITCHES.index(last)])
    before_training: list[tuple[Stage[Any], ConfigSection]] = [
        (split, SplitSettings.of(config)),
        (sample, SampleSettings.of(config)),
        (reject, RejectSettings.of(config)),
        (encode, EncodeStageSettings.for_training(config.student, config.seed)),
    ]
    for stage, settings in before_training:
        if stage.name in off:
            run.earlier(stage.name, stage.shown(settings))
    needs_train = "train" in off
    needs_evaluate = "evaluate" in off or (last == "train" and stopping)
    segments: list[PlannedSegment] = []
    # With early stopping, or before the examples are encoded, the steps are not known yet.
    if not stopping and "encode" in run.switches.off and (needs_train or needs_evaluate):
        encoded = run.earlier(encode.name, encode.shown())
        segments = planned_segments(run, planned_steps(run, encoded))
    if needs_train:
        _require_each(run, "train", train.shown(), [part.stop for part in segments])
    if needs_evaluate:
        stops = [0, *(part.stop for part in segments if part.evaluate)]
        _require_each(run, "evaluate", evaluate.shown(phase=STUDENT), stops)


def _require_each(run: Runner, stage: str, file: str, stops: Sequence[int]) -> None:
    """Require the objects of a stage at these steps; if no steps are known yet, any object."""
    if not any(slot.startswith(f"{stage}/") for slot in run.view.stages()):
        run.earlier(stage, file)
    for stop in stops:
        run.earlier(f"{stage}/{stop}", file)


def measure_baselines(run: Runner) -> str:
    """Measure every baseline in order; returns where the report is. A run reuses what is built here.

    A baseline that fails is named in the report. Raises StageError if all of them fail, UserError if the
    stage export is off, and MissingInputError if an input that is off has no earlier object.
    """
    config = run.config
    run.context.preflight(online=run.executes)
    if not run.switches.on(analyse):
        raise UserError("the baselines are measured with the stage export: switch it on")
    if not run.switches.on(split):
        run.earlier(split.name, split.shown())
    if not run.switches.on(evaluate):
        run.earlier("evaluate/0", f"{_FOLDER}/metrics_val.json")
    check_label_only_run(run)
    parts = run.stage(split, SplitSettings.of(config))
    check_label_only_run(run, parts)

    asks = run.switches.on(sample) and config.teacher.kind != "gold"
    answers = run.stage(sample, SampleSettings.of(config), split=parts) if asks else None
    labels = label_splits(run, parts) if asks else {}

    # Without the evaluations of training, which would replace the learning curve by step 0 alone.
    trained = Trained()
    with run.optional(Part.UNTRAINED):
        settings = MeasureSettings.for_evaluation(config)
        trained.evaluations[0] = run.stage(evaluate, settings, {"phase": STUDENT, "step": 0}, split=parts)
    analyzed: SplitName = "test" if "test" in config.export.splits else "val"
    scorers = [s for s in compare_baselines(run, parts, trained, labels) if analyzed in s.rows]
    if not scorers:
        reasons = "; ".join(f"{f.part}: {f.message}" for f in run.failures)
        raise StageError(f"no baseline could be measured: {reasons}")
    analysis = analyse_scorers(run, parts, scorers, analyzed, "baselines")
    where: str = run.perform(write_baselines, run, scorers, analysis, answers)
    return where


@action("baseline-report")
def write_baselines(
    run: Runner, scorers: Sequence[Scorer], analysis: Manifest, answers: Manifest | None
) -> str:
    """Write baselines.json, analysis.json, metrics_<split>.json and the report; return where that is."""
    config, store, view, readings = run.config, run.store, run.view, ScorerReader(run.store)
    view.fill(analysis, {ANALYSIS: f"{_FOLDER}/{ANALYSIS}"})
    results = readings.results(scorers)
    view.write_json(f"{_FOLDER}/baselines.json", {name: s.to_json() for name, s in results.items()})
    asked = next((s for each in _UNTRAINED for s in scorers if s.name == each), None)
    if asked is not None:
        for name, manifest in asked.rows.items():
            content = {
                "created_at": manifest.created_at,
                "split": name,
                "model_path": config.student.model,
                "asked": asked.title,
                "decision_threshold_rule": rule(config.evaluation.threshold),
                "decision_threshold": readings.decision(asked).threshold,
                "metrics": readings.metrics(asked, name).to_json(),
            }
            view.write_json(f"{_FOLDER}/metrics_{name}.json", content)
    sampled = None if answers is None else SampleSummary.read(store.file(answers, SUMMARY_FILE))
    data = BaselineData(
        run_name=view.name,
        generated_at=now(),
        config=config,
        analysis=Analysis.read(store.file(analysis, ANALYSIS)),
        decisions=readings.decided(scorers),
        first_answers=None if sampled is None else sampled.first_answers,
    )
    document = baseline_report(data, run.failures)
    return view.write(BASELINE_REPORT, render_markdown(document, run.failures))
