"""The values of a report, read from the objects of a finished run."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import TypeVar

from core import jsonio
from core.config import Config
from core.data.writing import read_examples
from core.evaluation.decision import DECISION, Decided
from core.evaluation.hardness import HARDNESS, HardTexts
from core.evaluation.metrics import Metrics
from core.evaluation.predictions import Predictions
from core.evaluation.stages import EXPLAINED, ScoringSummary
from core.evaluation.threshold import describe
from core.export.ledger import CostEstimate
from core.export.manifests import decision_name
from core.jsonio import now
from core.optional import Part
from core.pipeline import seeds
from core.pipeline.estimate import FILE as ESTIMATE
from core.pipeline.outcome import Outcome, ledger
from core.pipeline.run_folder import adapter_path, state_path
from core.pipeline.scorers import Scorer
from core.provenance import current_code
from core.records import SplitName
from core.report.data import (
    CurvePoint,
    Mistake,
    ModelBlock,
    Reinforced,
    ReportData,
    SeedResult,
    Setup,
)
from core.report.sections.rows import worst
from core.report.text import plural, were
from core.results import SplitSize
from core.rl.history import RLStep, ValRewards
from core.rl.segment import STEPS
from core.store import reads
from core.store.reads import Read
from core.store.runs import FOLDER
from core.student.segment import STEPS_FILE, read_steps
from core.student.stage import SUMMARY_FILE as ENCODED
from core.student.stage import EncodeSummary

_Fact = TypeVar("_Fact")
_FILES = {
    "student_phase/analysis.json": "every figure of the tables and plots",
    "student_phase/eval_history.jsonl": "every checkpoint on val",
    "student_phase/learning_curve.png": "the curve as a picture",
    "student_phase/bundle": "all that a deployment needs, for understudy predict, with a model card",
    "teacher_phase/rejected_samples.jsonl": "rejected answers, with every rule's verdict",
    "teacher_phase/hard_examples.jsonl": "texts whose every answer was rejected, with the reasons",
    "split_summary.json": "what became of every row of the data",
    "resolved_config.yaml": "every setting and where it comes from",
}
_RL_FILES = {
    "rl_phase/analysis.json": "every figure of the tables and plots",
    "rl_phase/rl_history.jsonl": "every step: rewards, groups, loss, tokens, seconds",
    "rl_phase/rollouts.jsonl": "answers of each step with what they earned",
    "rl_phase/eval_history.jsonl": "every checkpoint on val",
    "rl_phase/reinforce.json": "the settings and what was begun with",
    "resolved_config.yaml": "every setting and where it comes from",
}


def report_of(o: Outcome) -> ReportData:
    """Return the values of the report; optional ones that cannot be read are recorded as failures."""
    first, teacher = o.modes[0], o.teaching

    def optional(what: str, make: Callable[[], _Fact], otherwise: Callable[[], _Fact]) -> _Fact:
        return o.failures.attempt(Part.FACTS, what, make, otherwise)

    measured: list[SeedResult] = optional("other seeds", lambda: _other_seeds(o, first), list)
    return ReportData(
        run_name=o.run,
        generated_at=now(),
        setup=setup_of(o.config, "none" if teacher is None else teacher.teacher_model),
        analysis=o.analysis_of_all,
        decisions=_decisions(o),
        selection=o.selection,
        curve=curve_points(o),
        sizes=sizes(o),
        models=_models(o),
        losses=losses(o),
        val_baselines=optional("baselines on val", lambda: _on_val(o), dict),
        teacher=teacher,
        hardness=optional("hard texts", lambda: _hardness(o), list),
        ledger=optional("ledger", lambda: ledger(o), lambda: None),
        estimate=optional("cost estimate", lambda: _estimate(o), lambda: None),
        notices=optional("notices", lambda: _notices(o), list),
        resume_state_path=state_path(o.final),
        mistakes=optional("worst errors", lambda: _mistakes(o, first), list),
        reads=optional("reads of test", lambda: _reads(o), tuple),
        seeds=measured,
        reinforced=reinforced(o),
        untested=seeds.missing(o.config, measured) if o.reinforcement is None else [],
        provenance=optional("provenance", lambda: _provenance(o), list),
        files=_files(o),
    )


def _decisions(o: Outcome) -> dict[str, Decided]:
    """By scorer; only those of the student are essential."""
    found = {s.name: Decided.read(o.store.file(s.decision, DECISION)) for s in o.modes if s.decision}
    for s in o.others:
        with o.failures.optional(Part.FACTS, f"decision of {s.name}"):
            if s.decision is not None:
                found |= {s.name: Decided.read(o.store.file(s.decision, DECISION))}
    return found


def _hardness(o: Outcome) -> list[HardTexts]:
    return [HardTexts.read(o.store.file(m, HARDNESS)) for m in o.hard.values()]


def _on_val(o: Outcome) -> dict[str, Metrics]:
    return {s.title: o.readings.metrics(s, "val") for s in o.others if s.kind == "baseline"}


def _estimate(o: Outcome) -> CostEstimate | None:
    path = f"{FOLDER}/{o.run}/{ESTIMATE}"
    found = None if o.reinforcement else o.store.read_json(path)
    return None if found is None else CostEstimate.from_json(found, o.store.where(path))


def _reads(o: Outcome) -> Sequence[Read]:
    return reads.of(o.store, o.parts) if o.split == "test" else ()


def _other_seeds(o: Outcome, first: Scorer) -> list[SeedResult]:
    """A student that learned from rewards has one seed, and so has a run that names no others."""
    if o.encoded is None or o.reinforcement is not None:
        return []
    return seeds.results(o.store, o.run, o.config, o.encoded, first, o.split)


def sizes(o: Outcome) -> dict[SplitName, SplitSize]:
    """Return rows and positives of each split."""
    splits = o.split_summary.used_split_summary
    return {
        name: SplitSize(rows=part.count, positive=part.label_counts.positive) for name, part in splits.items()
    }


def losses(o: Outcome) -> list[tuple[int, float]]:
    """Return the training loss by step, counted from 1; empty for a policy gradient, which has none."""
    if o.reinforcement is not None:
        return []
    return [(s.step + 1, s.loss) for m in o.trained for s in read_steps(o.store.file(m, STEPS_FILE))]


def curve_points(o: Outcome) -> list[CurvePoint]:
    """Return the learning curve; a point's train loss is the mean of the steps since the previous point."""
    steps = losses(o)
    out, before = [], 0
    for point in o.curve:
        since = [loss for step, loss in steps if before < step <= point.step]
        out.append(CurvePoint(point.step, point.metrics, sum(since) / len(since) if since else None))
        before = point.step
    return out


def reinforced(o: Outcome) -> Reinforced | None:
    """Return what the student learned from rewards; None if it did not."""
    if o.reinforcement is None:
        return None
    return Reinforced(
        start=str(o.reinforcement.start),
        planned=o.reinforcement.planned,
        history=[
            RLStep.from_json(row, f"{m.path}/{STEPS}")
            for m in o.trained
            for row in jsonio.read_jsonl(o.store.file(m, STEPS))
        ],
        val_rewards={
            step: ValRewards.from_json(m.summary, m.path) for step, m in o.reinforcement.rewards.items()
        },
        weights=dict(o.config.reinforce.rewards),
    )


def setup_of(config: Config, teacher: str) -> Setup:
    """Return what was run, as it was configured."""
    student, evaluation = config.student, config.evaluation
    return Setup(
        base_model=student.model,
        engine=student.engine.kind,
        target=student.target,
        rulebook_in_prompt=student.rulebook,
        seed=config.training_seed,
        teacher=teacher,
        calibration=evaluation.calibration.method,
        objective=describe(evaluation.threshold),
        rationales="none" if student.target == "label_only" else student.rationales,
    )


def _mistakes(o: Outcome, first: Scorer) -> list[Mistake]:
    """The worst errors, with what the student says of them where it was asked."""
    scored = o.readings.rows(first, o.split)
    if o.explained is not None:
        scored = scored.with_generated(Predictions.read(o.store.file(o.explained, EXPLAINED)))
    examples = read_examples(o.store.file(o.parts, f"{o.split}.csv"))
    return worst(examples, scored, o.readings.decision(first), o.bench.rulebook.ids)


def _models(o: Outcome) -> list[ModelBlock]:
    """The last and the chosen model, where they are, and their metrics."""
    # Those of the tables: without rows that a server failed on for another scorer.
    metrics = o.analysis_of_all.with_probabilities[o.modes[0].name].metrics
    same = o.final is not None and o.selection.step == max(o.checkpoints)
    best = adapter_path(o.checkpoint, o.home) or "the base model, without an adapter"
    return [
        ModelBlock("final model", adapter_path(o.final) or "none was trained", metrics if same else None),
        ModelBlock("best-val model", best, metrics),
    ]


def _files(o: Outcome) -> dict[str, str]:
    """Where to look; the label-only mode leaves no predictions."""
    label_only = o.modes[0].kind == "label_only"
    folder = o.phase.folder
    said = {
        f"{folder}/{o.split}.json": f"what the student says of each {o.split} text, with probability "
        "and decision"
    }
    page = "report.html" if o.reinforcement is None else f"{folder}/report.html"
    return {
        page: "this report with its plots and the worst errors with their texts",
        **({} if label_only else said),
        f"{folder}/{decision_name(label_only=label_only)}": "calibration and threshold, and how they "
        "were fitted on val",
        **(_FILES if o.reinforcement is None else _RL_FILES),
    }


def _notices(o: Outcome) -> list[str]:
    """Sentences on rows left out, truncated texts and skewed rejection."""
    same = len(o.modes) > 1 and o.modes[1].name not in o.analysis_of_all.scorers
    teacher = o.teaching
    out = [
        *(["the label-only prompt is the student's own, so no table has it twice"] if same else []),
        *o.split_summary.notices,
        *([] if teacher is None else teacher.notices),
        *([] if o.encoded is None else _of_training(EncodeSummary.read(o.store.file(o.encoded, ENCODED)))),
    ]
    for name, manifest in o.modes[0].rows.items():
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


def _of_training(encoded: EncodeSummary) -> list[str]:
    out, given = [], encoded.rationales
    if given.kind == "shuffled":
        out.append(
            "the student learned each text with the rationale of another text of its label, as a control; "
            f"{given.own:,} of {plural(given.samples, 'sample')} kept one of its own text, and "
            f"{given.same_words:,} one that reads as its own"
        )
    if encoded.cut_texts:
        tokens = plural(encoded.cut_tokens, "token")
        out.append(f"{were(encoded.cut_texts, 'training text')} truncated, by {tokens} in all")
    if encoded.dropped:
        out.append(f"{were(encoded.dropped, 'accepted sample')} dropped: {encoded.dropped_reason}")
    return out


def _provenance(o: Outcome) -> list[tuple[str, str]]:
    """Versions and commit of the code, and digests of the files."""
    code = current_code()
    packages = [(name, metadata.version(name)) for name in o.config.student.engine.packages]
    checkpoint = [] if o.checkpoint is None else [("chosen checkpoint", o.checkpoint.digest)]
    return [
        ("understudy", code.version or ""),
        ("commit", code.commit or ""),
        ("python", platform.python_version()),
        *packages,
        *((f"{name}.csv", o.parts.files[f"{name}.csv"].sha256) for name in sizes(o)),
        ("base model", o.bench.base_digest),
        ("prompts", o.bench.prompts.student_digest),
        ("rulebook", o.bench.rulebook.digest),
        *([] if o.kept is None else [("accepted answers", o.kept.digest)]),
        *checkpoint,
        ("analysis", o.analysis.digest),
    ]
