"""The values of a report, read from the objects of a finished run."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib import metadata
from typing import TypeVar

from core import jsonio
from core.errors import Part
from core.evaluation.analysis import Analysis
from core.evaluation.decision import DECISION, Decided
from core.evaluation.predictions import Predictions
from core.evaluation.slices import HARDNESS, HardTexts
from core.evaluation.student_scores import EXPLAINED, ScoringSummary
from core.export.ledger import CostEstimate
from core.export.manifests import file_name
from core.jsonio import now
from core.pipeline import seeds
from core.pipeline.estimate import FILE as ESTIMATE
from core.pipeline.outcome import Outcome
from core.pipeline.run_folder import adapter_path, state_path
from core.records import read_examples
from core.rejection.funnel import TeacherSummary
from core.report import Mistake, ModelBlock, Reinforced, ReportData, SeedResult, plural, were
from core.report.scorer_sections import worst
from core.rl.rewards import RLStep
from core.rl.stages import STEPS
from core.store.run_view import FOLDER, current_code, find_test_reads
from core.student.encode_stage import SUMMARY_FILE as ENCODED
from core.student.encode_stage import EncodeSummary
from core.student.train_stage import STEPS_FILE, read_steps

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


def report_of(o: Outcome) -> ReportData:
    """Return the values of the report; optional ones that cannot be read are recorded as failures."""
    store, exported, teacher, analysis = o.store, o.exported, o.teacher_summary(), o.analysis()

    def optional(what: str, make: Callable[[], _Fact], otherwise: Callable[[], _Fact]) -> _Fact:
        return o.failures.attempt(Part.FACTS, what, make, otherwise)

    losses, measured, missing = list[tuple[int, float]](), list[SeedResult](), list[str]()
    if o.reinforcement is None:  # rewards have no loss, and are learned with one seed
        for segment in o.trained.segments:
            losses += [(s.step + 1, s.loss) for s in read_steps(store.file(segment, STEPS_FILE))]
        if (encoded := o.encoded) is not None:
            at = (store, o.view.name, o.config, encoded, o.first, exported.split)
            measured = optional("other seeds", lambda: seeds.results(*at), list)
        missing = seeds.missing(o.config, measured)
    baselines = [s for s in exported.others if s.kind == "baseline"]
    return ReportData(
        run_name=o.view.name,
        generated_at=now(),
        config=o.config,
        analysis=analysis,
        decisions=_decisions(o),
        selection=o.selection,
        curve=dict(sorted(o.trained.curve.items())),
        sizes=o.sizes(),
        models=_models(o, analysis),
        losses=losses,
        val_baselines=optional(
            "baselines on val", lambda: {s.title: o.readings.metrics(s, "val") for s in baselines}, dict
        ),
        teacher=teacher,
        hardness=optional(
            "hard texts", lambda: [HardTexts.read(store.file(m, HARDNESS)) for m in o.hard.values()], list
        ),
        ledger=optional("ledger", o.ledger, lambda: None),
        estimate=optional("cost estimate", lambda: _estimate(o), lambda: None),
        notices=optional("notices", lambda: _notices(o, analysis, teacher), list),
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
    found = {s.name: Decided.read(o.store.file(s.frozen, DECISION)) for s in o.exported.modes}
    for s in o.exported.others:
        with o.failures.optional(Part.FACTS, f"decision of {s.name}"):
            if s.decision is not None:
                found |= {s.name: Decided.read(o.store.file(s.decision, DECISION))}
    return found


def _estimate(o: Outcome) -> CostEstimate | None:
    path = f"{FOLDER}/{o.view.name}/{ESTIMATE}"
    found = None if o.reinforcement else o.store.read_json(path)
    return None if found is None else CostEstimate.from_json(found, o.store.where(path))


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


def _models(o: Outcome, analysis: Analysis) -> list[ModelBlock]:
    # Those of the tables: without rows that a server failed on for another scorer.
    metrics = analysis.with_probabilities[o.first.name].metrics
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


def _notices(o: Outcome, analysis: Analysis, teacher: TeacherSummary | None) -> list[str]:
    """Sentences on rows left out, truncated texts and skewed rejection."""
    modes = o.exported.modes
    out = [*o.split_summary().notices, *([] if teacher is None else teacher.notices)]
    if len(modes) > 1 and modes[1].name not in analysis.scorers:
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
