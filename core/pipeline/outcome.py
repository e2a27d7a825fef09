"""What a finished run is reported from: manifests, put together into the report's inputs."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from core import jsonio
from core.config import Config
from core.evaluation import decision
from core.evaluation.analyse_stage import ANALYSIS
from core.evaluation.baseline_stage import NAME as BASELINE
from core.evaluation.decide_stage import DECISION
from core.evaluation.decision import Decision
from core.evaluation.metrics import Metrics
from core.evaluation.objectives import describe
from core.evaluation.selection import EvaluatedCheckpoint, Selection
from core.evaluation.stage import EXPORT, read_scores
from core.export.inputs import CurvePoint, Entry, Funnel, ModelBlock, Rejected, ReportInputs, SplitSize
from core.export.ledger import student_ledger, to_json
from core.pipeline.scorers import Scorer
from core.pipeline.views import adapter_path, state_path
from core.prices import load_prices
from core.records import ScoredExample, SplitName
from core.store.clock import now
from core.store.manifest import Manifest
from core.store.objects import Store

log = logging.getLogger(__name__)

_FILES = {
    "student_phase/test.json": "what the student says of each test text, with probability and decision",
    "student_phase/eval_history.jsonl": "every checkpoint on val",
    "student_phase/learning_curve.png": "the curve as a picture",
    "teacher_phase/rejected_samples.jsonl": "rejected answers, with every rule's verdict",
    "split_summary.json": "what became of every row of the data",
    "resolved_config.yaml": "every setting and where it comes from",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The manifests of a finished run."""

    store: Store
    run: str
    config: Config
    base_digest: str
    parts: Manifest
    kept: Manifest
    encoded: Manifest
    checkpoints: Mapping[int, Manifest]
    curve: Sequence[EvaluatedCheckpoint]
    selection: Selection
    modes: Sequence[Scorer]
    """The chosen checkpoint as it is asked; the first is the one that is published."""
    others: Sequence[Scorer]
    """Whom it is compared with."""
    split: SplitName
    """Where the table is measured: test, unless it was not exported."""
    analysis: Manifest
    evaluations: Mapping[int, Manifest] = field(default_factory=dict)
    home: Manifest | None = None
    """The chosen adapter as it was taken home from a server."""
    _cache: dict[tuple[str, SplitName], Metrics] = field(default_factory=dict)

    @property
    def checkpoint(self) -> Manifest | None:
        """The chosen checkpoint; None where the untrained model was chosen."""
        return self.checkpoints.get(self.selection.step)

    @property
    def final(self) -> Manifest | None:
        """The last checkpoint."""
        return self.checkpoints[max(self.checkpoints)] if self.checkpoints else None

    def scored(self, scorer: Scorer, split: SplitName) -> list[ScoredExample]:
        """A scorer's rows of a split as they were scored: neither calibrated nor decided."""
        return read_scores(self.store.file(scorer.rows[split], scorer.file_of(split)))

    def decision(self, scorer: Scorer) -> Decision:
        """What was frozen for a scorer on val."""
        if scorer.decision is not None:
            return decision.read(self.store.file(scorer.decision, DECISION))
        assert scorer.threshold is not None, f"{scorer.name} gives labels and decides nothing"
        return decision.by_definition(scorer.threshold)

    def metrics(self, scorer: Scorer, split: SplitName) -> Metrics:
        """A scorer's metrics on a split, as it decides."""
        at = scorer.name, split
        if at not in self._cache:
            self._cache[at] = self.decision(scorer).metrics(self.scored(scorer, split))
        return self._cache[at]

    def intervals(self, scorer: Scorer, split: SplitName) -> dict[str, Any]:
        """A scorer's intervals by metric, where they were made: on val, and where all were compared."""
        found: dict[str, Any] = {}
        if split == self.split:
            found = self.json(self.analysis, ANALYSIS)["scorers"][scorer.name]["intervals"]
        elif split == "val" and scorer.decision is not None:
            found = self.json(scorer.decision, DECISION)["intervals"]
        return found

    def baselines(self) -> dict[str, Any]:
        """By name, each baseline's title, settings and metrics by split; empty without any."""
        stage = next((s.rows[self.split] for s in self.others if s.name == "majority"), None)
        about = {} if stage is None else self.json(stage, "baselines.json")
        return {
            s.name: {
                **{k: v for k, v in about.get(s.name, {}).items() if k in ("trained_on", "settings")},
                "title": s.title,
                "decision_threshold": self.decision(s).threshold,
                "decision_threshold_reason": self.decision(s).reason,
                "metrics": {split: self.metrics(s, split).to_json() for split in s.rows},
            }
            for s in self.others
            if s.kind == "baseline"
        }

    def json(self, manifest: Manifest, name: str) -> dict[str, Any]:
        """One JSON file of an object."""
        found: dict[str, Any] = jsonio.read_json(self.store.file(manifest, name))
        return found


def ledger(o: Outcome) -> dict[str, Any]:
    """What the run took, in tokens, money and seconds."""
    student = o.config.student
    price = None
    if student.engine != "local" and student.prices is not None:
        price = load_prices(Path(student.prices)).students.get(student.model)
        if price is None:
            log.warning(
                "%s has no price of %s under students: tokens are counted", student.prices, student.model
            )
    asked = [s for s in (*o.modes, *o.others) if s.kind in ("student", "label_only", "untrained")]
    measured = [*o.evaluations.values(), *(m for s in asked for m in s.rows.values())]
    unique = {m.path: m for m in measured}
    teacher = o.json(o.kept, "teacher_summary.json").get("ledger")
    found = student_ledger(o.checkpoints.values(), unique.values(), price)
    return to_json(teacher, found, seconds(o))


def report_inputs(o: Outcome) -> ReportInputs:
    """All that the report says."""
    student = o.config.student
    return ReportInputs(
        run_name=o.run,
        generated_at=now(),
        base_model=student.model,
        engine=student.engine,
        target=student.target,
        rulebook_in_prompt=student.rulebook,
        split=o.split,
        sizes=[SplitSize(*size) for size in sizes(o)],
        entries=list(entries(o)),
        selection=o.selection,
        threshold_reason=f"{describe(o.config.evaluation.threshold)} on val, frozen before test was read",
        curve=curve_points(o),
        models=models(o),
        resume_state_path=state_path(o.final),
        funnel=funnel(o),
        notices=notices(o),
        files=_FILES,
        seconds=seconds(o),
    )


def sizes(o: Outcome) -> list[tuple[str, int, int]]:
    """Name, rows and positives of each split."""
    summary = o.json(o.parts, "split_summary.json")["used_split_summary"]
    return [(name, part["count"], part["label_counts"]["1"]) for name, part in summary.items()]


def entries(o: Outcome) -> list[Entry]:
    """The rows of the table, all measured on the same texts."""
    order = ("baseline", "untrained", "student", "label_only")
    found = [s for s in (*o.others, *o.modes) if s.kind in order]
    found.sort(key=lambda s: order.index(s.kind))
    return [Entry(s.title, cast(Any, s.kind), o.metrics(s, o.split)) for s in found]


def losses(o: Outcome) -> list[tuple[int, float]]:
    """Training loss by step, of the steps that were taken."""
    out = []
    for manifest in o.checkpoints.values():
        for row in jsonio.read_jsonl(o.store.file(manifest, "steps.jsonl")):
            out.append((row["step"] + 1, row["loss"]))
    return out


def curve_points(o: Outcome) -> list[CurvePoint]:
    """The learning curve; each point's train loss is the mean over the steps since the one before."""
    steps = losses(o)
    out, before = [], 0
    for point in o.curve:
        since = [loss for step, loss in steps if before < step <= point.step]
        out.append(CurvePoint(point.step, point.metrics, sum(since) / len(since) if since else None))
        before = point.step
    return out


def models(o: Outcome) -> list[ModelBlock]:
    """The last and the chosen model, where they are, and what was measured of them."""
    metrics = o.metrics(o.modes[0], o.split) if o.modes[0].kind == "student" else None
    same = o.final is not None and o.selection.step == max(o.checkpoints)
    best = adapter_path(o.checkpoint, o.home) or "the base model, without an adapter"
    return [
        ModelBlock("final model", adapter_path(o.final) or "none was trained", metrics if same else None),
        ModelBlock("best-val model", best, metrics),
    ]


def funnel(o: Outcome) -> Funnel:
    """The teacher's answers, from texts to accepted samples."""
    summary = o.json(o.kept, "teacher_summary.json")
    texts, missing = summary["funnel"]["texts"], summary["funnel"]["missing"]
    by_label = texts["by_label"]
    return Funnel(
        teacher=summary["teacher_model"],
        negative=by_label["0"]["total"] + missing["0"],
        positive=by_label["1"]["total"] + missing["1"],
        missing=missing["0"] + missing["1"],
        accepted_negative=by_label["0"]["count"],
        accepted_positive=by_label["1"]["count"],
        rejected=[Rejected(rule, by["0"], by["1"]) for rule, by in texts["by_reason"].items()],
    )


def notices(o: Outcome) -> list[str]:
    """Sentences on rows left out, cut texts and skewed rejection."""
    encoded = o.json(o.encoded, "encode_summary.json")
    out = [
        *o.json(o.parts, "split_summary.json")["notices"],
        *o.json(o.kept, "teacher_summary.json")["notices"],
    ]
    if encoded["cut_texts"]:
        out.append(
            f"{encoded['cut_texts']} training texts were cut, by {encoded['cut_tokens']} tokens together"
        )
    if encoded["dropped"]:
        out.append(f"{encoded['dropped']} accepted samples were dropped: {encoded['dropped_reason']}")
    for name, manifest in o.modes[0].rows.items():
        if manifest.summary["cut_texts"]:
            out.append(f"{manifest.summary['cut_texts']} texts of {name} were cut to fit the prompt")
        if failed := manifest.summary.get("failed_rows"):
            out.append(f"{failed} texts of {name} could not be scored by the server and are in no metric")
        if bounded := manifest.summary.get("bounded_rows"):
            out.append(
                f"{bounded} texts of {name} have a label that the server did not list: its probability is an "
                "upper bound"
            )
    return out


def seconds(o: Outcome) -> dict[str, float]:
    """Seconds by stage, as they were when the stage was made, reused ones included."""
    scored = {m.path: m for s in (*o.modes, *o.others) for m in s.rows.values()}
    stages: dict[str, Sequence[Manifest | None]] = {
        "split": [o.parts],
        "reject": [o.kept],
        "encode": [o.encoded],
        "train": list(o.checkpoints.values()),
        "evaluate": list(o.evaluations.values()),
        "export": [m for m in scored.values() if m.stage == EXPORT],
        "baseline": [m for m in scored.values() if m.stage == BASELINE],
        "decide": [s.decision for s in (*o.modes, *o.others)],
        "analyse": [o.analysis],
    }
    return {
        name: round(sum(m.summary.get("seconds", 0.0) for m in found if m), 1)
        for name, found in stages.items()
    }
