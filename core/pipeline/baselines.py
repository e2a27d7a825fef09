"""The baselines alone: the results that a student has to exceed, before one is trained."""

from __future__ import annotations

from collections.abc import Sequence

from core.data.stage import SplitSettings
from core.data.stage import split as split_stage
from core.errors import Part, StageError, UserError
from core.evaluation.analysis import FILE as ANALYSIS
from core.evaluation.analysis import Analysis, analyse
from core.evaluation.decision import DECISION, Decided
from core.evaluation.student_scores import MeasureSettings, evaluate
from core.evaluation.threshold import rule
from core.jsonio import now
from core.pipeline.distill import label_splits
from core.pipeline.exporting import analyse_scorers, check_label_only_run, compare_baselines
from core.pipeline.run_folder import STUDENT
from core.pipeline.runners import Runner
from core.pipeline.scorers import Scorer, ScorerReader
from core.pipeline.training import Trained
from core.records import SplitName
from core.report import BaselineData, baseline_report, render_markdown
from core.stage import action
from core.store import Manifest
from core.teacher.samples import SampleSummary
from core.teacher.stage import SUMMARY_FILE, SampleSettings, sample

FOLDER = "baseline_phase"
REPORT = f"{FOLDER}/baseline_report.md"
UNTRAINED = ("untrained_rulebook", "untrained")
"""Scorers for metrics_<split>.json: the first of these that was measured."""


def measure_baselines(run: Runner) -> str:
    """Measure every baseline in order; returns where the report is. A run reuses what is built here.

    A baseline that fails is named in the report. Raises StageError if all of them fail, UserError if the
    stage export is off, and MissingInputError if an input that is off has no earlier object.
    """
    config = run.config
    run.context.preflight(online=run.executes)
    if not run.switches.on(analyse):
        raise UserError("the baselines are measured with the stage export: switch it on")
    if not run.switches.on(split_stage):
        run.earlier(split_stage.name, split_stage.shown())
    if not run.switches.on(evaluate):
        run.earlier("evaluate/0", f"{FOLDER}/metrics_val.json")
    check_label_only_run(run)
    parts = run.stage(split_stage, SplitSettings.of(config))
    check_label_only_run(run, parts)

    asks = run.switches.on(sample) and config.teacher.kind != "gold"
    answers = run.stage(sample, SampleSettings.of(config), split=parts) if asks else None
    labels = label_splits(run, parts) if asks else {}

    # Without the evaluations of training, which would replace the learning curve by step 0 alone.
    trained = Trained()
    with run.optional(Part.UNTRAINED):
        settings = MeasureSettings.for_evaluation(config)
        trained.evaluations[0] = run.stage(evaluate, settings, {"phase": STUDENT, "step": 0}, split=parts)
    split: SplitName = "test" if "test" in config.export.splits else "val"
    scorers = [s for s in compare_baselines(run, parts, trained, labels) if split in s.rows]
    if not scorers:
        reasons = "; ".join(f"{f.part}: {f.message}" for f in run.failures)
        raise StageError(f"no baseline could be measured: {reasons}")
    analysis = analyse_scorers(run, parts, scorers, split, "baselines")
    where: str = run.perform(write_baselines, run, scorers, analysis, answers)
    return where


@action("baseline-report")
def write_baselines(
    run: Runner, scorers: Sequence[Scorer], analysis: Manifest, answers: Manifest | None
) -> str:
    """Write baselines.json, analysis.json, metrics_<split>.json and the report; return where that is."""
    config, store, view, readings = run.config, run.store, run.view, ScorerReader(run.store)
    view.fill(analysis, {ANALYSIS: f"{FOLDER}/{ANALYSIS}"})
    results = readings.results(scorers)
    view.write_json(f"{FOLDER}/baselines.json", {name: s.to_json() for name, s in results.items()})
    asked = next((s for name in UNTRAINED for s in scorers if s.name == name), None)
    if asked is not None:
        for split, manifest in asked.rows.items():
            content = {
                "created_at": manifest.created_at,
                "split": split,
                "model_path": config.student.model,
                "asked": asked.title,
                "decision_threshold_rule": rule(config.evaluation.threshold),
                "decision_threshold": readings.decision(asked).threshold,
                "metrics": readings.metrics(asked, split).to_json(),
            }
            view.write_json(f"{FOLDER}/metrics_{split}.json", content)
    sampled = None if answers is None else SampleSummary.read(store.file(answers, SUMMARY_FILE))
    decided = {s.name: s.decision for s in scorers if s.decision is not None}
    data = BaselineData(
        run_name=view.name,
        generated_at=now(),
        config=config,
        analysis=Analysis.read(store.file(analysis, ANALYSIS)),
        decisions={name: Decided.read(store.file(m, DECISION)) for name, m in decided.items()},
        first_answers=None if sampled is None else sampled.first_answers,
    )
    document = baseline_report(data, run.failures)
    return view.write(REPORT, render_markdown(document, run.failures))
