"""What the baseline flow leaves in baseline_phase/."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from core.config import Config
from core.evaluation.analysis import FILE as ANALYSIS
from core.evaluation.analysis import Analysis
from core.evaluation.decide_stage import DECISION
from core.evaluation.decision import Decided
from core.evaluation.threshold import rule
from core.optional import Failures
from core.pipeline.facts import setup_of
from core.pipeline.scorers import Readings, Scorer
from core.records import SplitName
from core.report import markdown
from core.report.data import BaselineData
from core.report.reports import baseline_report
from core.store.clock import now
from core.store.manifest import Manifest
from core.store.runs import RunView
from core.teacher.stage import SUMMARY_FILE
from core.teacher.summary import SampleSummary

FOLDER = "baseline_phase"
REPORT = f"{FOLDER}/baseline_report.md"
UNTRAINED = ("untrained_rulebook", "untrained")
"""Whose metrics stand in metrics_<split>.json: the first of these that was asked."""


@dataclass(frozen=True, slots=True)
class Baselines:
    """The manifests of a finished baseline flow. `sampled` are the teacher's answers to train."""

    config: Config
    scorers: Sequence[Scorer]
    split: SplitName
    analysis: Manifest
    sampled: Manifest | None
    failures: Failures = field(default_factory=Failures)
    """Optional parts that failed; the report lists them."""


def write(b: Baselines, view: RunView) -> str:
    """baselines.json, analysis.json, metrics_<split>.json and the report; returns where that is."""
    readings = Readings(view.store)
    view.fill(b.analysis, {ANALYSIS: f"{FOLDER}/{ANALYSIS}"})
    view.write_json(f"{FOLDER}/baselines.json", readings.summaries(b.scorers))
    asked = next((s for name in UNTRAINED for s in b.scorers if s.name == name), None)
    for split, manifest in asked.rows.items() if asked is not None else ():
        assert asked is not None
        content = {
            "created_at": manifest.created_at,
            "split": split,
            "model_path": b.config.student.model,
            "asked": asked.title,
            "decision_threshold_rule": rule(b.config.evaluation.threshold),
            "decision_threshold": readings.decision(asked).threshold,
            "metrics": readings.metrics(asked, split).to_json(),
        }
        view.write_json(f"{FOLDER}/metrics_{split}.json", content)
    document = baseline_report(_data(b, view), b.failures)
    return view.write(REPORT, markdown.render(document, b.failures))


def _data(b: Baselines, view: RunView) -> BaselineData:
    sampled, store = None, view.store
    if b.sampled is not None:
        sampled = SampleSummary.read(store.file(b.sampled, SUMMARY_FILE))
    is_gold = sampled is None or sampled.teacher_kind == "gold"
    return BaselineData(
        run_name=view.name,
        generated_at=now(),
        setup=setup_of(b.config, "none" if sampled is None else sampled.teacher_model),
        analysis=Analysis.read(store.file(b.analysis, ANALYSIS)),
        decisions={
            s.name: Decided.read(store.file(s.decision, DECISION))
            for s in b.scorers
            if s.decision is not None
        },
        first_answers=None if sampled is None or is_gold else sampled.first_answers,
    )
