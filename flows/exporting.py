"""What a run measures at its end, with checkpoint, calibration and threshold frozen: it reads test once."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from core.bundle.contents import CARD
from core.evaluation.selection import Selection
from core.optional import Part
from core.pipeline.bundling import bundle
from core.pipeline.outcome import Outcome
from core.pipeline.phases import STUDENT, Phase
from core.pipeline.scorers import Scorer
from core.pipeline.views import View
from core.records import SplitName
from core.stages import Stage
from core.store.manifest import Manifest
from flows.execution import Execution
from flows.walking import Trained, Walk

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Exported:
    """The chosen checkpoint in each of its modes, whom it is compared with, and the analysis of all."""

    step: int
    checkpoint: Manifest | None
    modes: tuple[Scorer, ...]
    others: tuple[Scorer, ...]
    split: SplitName
    """Which split was analysed: test, or val where test is not exported."""
    analysis: Manifest
    explained: Manifest | None
    """The student's words on its worst errors, where it was not asked to give reasons for every row."""


def export_checkpoint(
    run: Walk,
    parts: Manifest,
    trained: Trained,
    step: int,
    *,
    who: str = "student",
    others: Sequence[Scorer] = (),
) -> Exported:
    """Freeze a checkpoint's decisions on val, then score the other splits, then analyse."""
    checkpoint = trained.checkpoints.get(step)
    frozen = _freeze(run, parts, trained, step, who)
    splits = run.config.export.splits
    if "test" in splits:
        decisions = [mode.decision for mode in frozen if mode.decision is not None]
        run.reads_test(parts, [*([checkpoint] if checkpoint else []), *decisions], f"step {step}")
    modes: list[Scorer] = []
    for mode in frozen:
        modes.append(_elsewhere(run, parts, checkpoint, mode, who, modes[0] if modes else None))
    split: SplitName = "test" if "test" in splits else "val"
    told_apart = modes[:1] if _taken_over(run, modes) else modes
    analysis = _analyzed(run, parts, told_apart, [s for s in others if split in s.rows], split, who)
    explained: Manifest | None = None
    with run.optional(Part.EXPLANATIONS):
        explained = _explain(run, parts, checkpoint, modes[0], split, who)
    return Exported(step, checkpoint, tuple(modes), tuple(others), split, analysis, explained)


def _analyzed(
    run: Walk,
    parts: Manifest,
    student: Sequence[Scorer],
    others: Sequence[Scorer],
    split: SplitName,
    who: str,
) -> Manifest:
    """The analysis of the student and those it is compared with; of the student alone where that fails."""

    def analyzed(scorers: Sequence[Scorer]) -> Manifest:
        build = partial(run.pipeline.measuring.analyse, parts, scorers, split, who)
        return run.do_without(build, "student_phase/analysis.json")

    if others:
        with run.optional(Part.COMPARISON):
            return analyzed([*student, *others])
    return analyzed(student)


def download_adapter(
    run: Execution, view: View, parts: Manifest, checkpoint: Manifest | None
) -> Manifest | None:
    """The adapter of a checkpoint on a server, in the run's folder; None for all others."""
    if checkpoint is None or not run.pipeline.capabilities.remote:
        return None
    stage = run.pipeline.measuring.adapter(parts, checkpoint, view.phase)
    manifest = run.do_built(stage, f"{view.phase.folder}/adapter/adapter_model.safetensors")
    view.adapter(manifest)
    found = manifest.summary["parity"]
    if found["checked"]:
        log.info(
            "the downloaded adapter scores %d rows as the server does, within %.2g nats",
            found["rows"],
            found["largest"],
        )
    return manifest


def outcome_of(
    run: Execution, parts: Manifest, trained: Trained, chosen: Selection, exported: Exported, **more: Any
) -> Outcome:
    """What a report is made from; `more` are the fields of Outcome that only some flows know."""
    return Outcome(
        store=run.store,
        run=run.view.name,
        config=run.config,
        bench=run.pipeline.bench,
        parts=parts,
        checkpoints=trained.checkpoints,
        curve=trained.curve,
        evaluations=trained.evaluations,
        selection=chosen,
        modes=exported.modes,
        others=exported.others,
        split=exported.split,
        analysis=exported.analysis,
        explained=exported.explained,
        failures=run.failures,
        **more,
    )


def bundle_student(
    run: Execution,
    view: View,
    parts: Manifest,
    kept: Manifest | None,
    exported: Exported,
    home: Manifest | None,
    *,
    encoded: Manifest | None = None,
) -> Manifest:
    """All that a deployment of the exported checkpoint needs, in the run's folder."""

    def build(without: tuple[Part, ...]) -> Stage:
        return bundled(run, parts, kept, exported, home, view.phase, encoded=encoded, without=without)

    manifest = run.do_without(build, f"{view.phase.folder}/bundle/{CARD}")
    view.bundle(manifest)
    return manifest


def bundled(
    run: Walk,
    parts: Manifest,
    kept: Manifest | None,
    exported: Exported,
    home: Manifest | None = None,
    phase: Phase = STUDENT,
    *,
    encoded: Manifest | None = None,
    without: tuple[Part, ...] = (),
) -> Stage:
    """The stage that bundles the exported checkpoint as it is published; `without` are parts that failed."""
    e = exported
    return bundle(
        run.pipeline.measuring,
        parts,
        kept,
        e.checkpoint,
        e.modes[0],
        e.analysis,
        home,
        phase,
        encoded=encoded,
        without=without,
    )


def decided(run: Walk, parts: Manifest, who: str, scored: Manifest, file: str = "") -> Manifest:
    """Calibration and threshold of a scorer, from its scores of val."""
    named = {"file": file} if file else {}
    stage = run.pipeline.measuring.decide(parts, who, scored, **named)
    return run.do_built(stage, "student_phase/decision.json")


def scored_val(run: Walk, trained: Trained, step: int) -> Manifest | None:
    """A checkpoint's evaluation, which need not be made twice if it was of all rows."""
    return trained.evaluations.get(step) if run.config.evaluation.max_examples == 0 else None


def score(
    run: Walk,
    parts: Manifest,
    checkpoint: Manifest | None,
    split: SplitName,
    who: str,
    *,
    label_only: bool = False,
    scored: Manifest | None = None,
    rulebook: bool | None = None,
) -> Manifest:
    """One split, scored by a checkpoint or by the untrained model."""
    stage = run.pipeline.measuring.export(
        parts, checkpoint, split, label_only=label_only, scored=scored, who=who, rulebook=rulebook
    )
    return run.do_built(stage, f"student_phase/{split}.json")


def _freeze(run: Walk, parts: Manifest, trained: Trained, step: int, who: str) -> list[Scorer]:
    """The configured modes with what was frozen for each, and their rows of val."""
    config = run.config.export
    checkpoint = trained.checkpoints.get(step)
    modes: list[Scorer] = []
    if config.reasoning:
        val = score(run, parts, checkpoint, "val", who, scored=scored_val(run, trained, step))
        frozen = decided(run, parts, f"{who}/reasoning", val)
        modes.append(Scorer("student", f"Student (step {step})", "student", {"val": val}, frozen))
    if config.label_only:
        same = modes[0].rows["val"] if modes and run.pipeline.measuring.label_only_is_the_same else None
        val = score(run, parts, checkpoint, "val", who, label_only=True, scored=same)
        frozen = decided(run, parts, f"{who}/label_only", val)
        title = f"Student (step {step}, label-only prompt)"
        modes.append(Scorer("label_only", title, "label_only", {"val": val}, frozen))
    return modes


def _explain(
    run: Walk, parts: Manifest, checkpoint: Manifest | None, first: Scorer, split: SplitName, who: str
) -> Manifest | None:
    config = run.config
    reasons_later = first.kind == "student" and config.student.target == "label_first"
    if checkpoint is None or not reasons_later or config.export.error_rows == 0:
        return None
    stage = run.pipeline.measuring.explain(parts, checkpoint, first, split, who)
    return run.do_built(stage, "report.html")


def _taken_over(run: Walk, modes: Sequence[Scorer]) -> bool:
    """Whether the label-only mode asks what the first one asks: it would be compared with itself."""
    return len(modes) > 1 and run.pipeline.measuring.label_only_is_the_same


def _elsewhere(
    run: Walk, parts: Manifest, checkpoint: Manifest | None, mode: Scorer, who: str, first: Scorer | None
) -> Scorer:
    """A mode with its rows of the other splits too; `first` is the mode whose scores may be taken over."""
    label_only = mode.kind == "label_only"
    known: Mapping[SplitName, Manifest] = {}
    if label_only and first is not None and run.pipeline.measuring.label_only_is_the_same:
        known = first.rows
    rows = dict(mode.rows)
    for name in run.config.export.splits:
        if name not in rows:
            same = known.get(name)
            rows[name] = score(run, parts, checkpoint, name, who, label_only=label_only, scored=same)
    return replace(mode, rows=rows)
