"""The end of a run, with checkpoint, calibration and threshold frozen: it reads test once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from core.bundle.stage import BundleSettings, bundle
from core.evaluation.analysis import AnalyseSettings, analyse
from core.evaluation.decision import DecideSettings, decide
from core.evaluation.predictions import SCORES
from core.evaluation.selection import Selection
from core.evaluation.stages import ExplainSettings, MeasureSettings, explain, export
from core.export.adapter import AdapterSettings, adapter
from core.optional import Part
from core.pipeline.outcome import Outcome
from core.pipeline.phases import STUDENT, Phase
from core.pipeline.runners import Runner
from core.pipeline.scorers import Scorer
from core.pipeline.training import Trained
from core.records import SplitName
from core.store.manifest import Manifest

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Exported:
    """The chosen checkpoint in each of its modes, the scorers it is compared with, and the analysis."""

    step: int
    checkpoint: Manifest | None
    modes: tuple[Scorer, ...]
    others: tuple[Scorer, ...]
    split: SplitName
    """Which split was analysed: test, or val if test is not exported."""
    analysis: Manifest
    explained: Manifest | None
    """The student's reasoning about its worst errors, if it does not reason about every row."""


def export_checkpoint(
    run: Runner,
    parts: Manifest,
    trained: Trained,
    step: int,
    *,
    who: str = "student",
    others: Sequence[Scorer] = (),
) -> Exported:
    """Freeze a checkpoint's decisions on val, then score the other splits, then analyse."""
    checkpoint, splits = trained.checkpoints.get(step), run.config.export.splits
    frozen = _freeze(run, parts, trained, step, who)
    if "test" in splits:
        decisions = [mode.decision for mode in frozen if mode.decision is not None]
        run.note_read_of_test(parts, [*([checkpoint] if checkpoint else []), *decisions], f"step {step}")
    same = len(frozen) > 1 and run.context.label_only_is_the_same
    modes: list[Scorer] = []
    for mode in frozen:
        modes.append(_score_splits(run, parts, checkpoint, mode, who, modes[0] if modes and same else None))
    split: SplitName = "test" if "test" in splits else "val"
    # A label-only mode that asks the same as the first would be compared with itself.
    student, rest = modes[:1] if same else modes, [s for s in others if split in s.rows]
    analysis = _analyse(run, parts, student, rest, split, who)
    explained: Manifest | None = None
    with run.optional(Part.EXPLANATIONS):
        explained = _explain(run, parts, checkpoint, modes[0], split, who)
    return Exported(step, checkpoint, tuple(modes), tuple(others), split, analysis, explained)


def score(
    run: Runner,
    parts: Manifest,
    checkpoint: Manifest | None,
    split: SplitName,
    who: str,
    *,
    label_only: bool = False,
    scored: Manifest | None = None,
    rulebook: bool | None = None,
) -> Manifest:
    """The scores of one split by a checkpoint or by the untrained model.

    `scored` are the same rows as they were scored before. `rulebook` shows it, or not, whatever the
    student's own prompt does.
    """
    settings = MeasureSettings.for_export(
        run.config, split, label_only=label_only, generates=checkpoint is not None, rulebook=rulebook
    )
    inputs = {"split": parts, "checkpoint": checkpoint, "scored": scored}
    return run.stage(export, settings, {"who": who}, **inputs)


def freeze_decision(run: Runner, parts: Manifest, who: str, scored: Manifest, file: str = SCORES) -> Manifest:
    """Calibration and threshold of a scorer, from its scores of val in `file`."""
    return run.stage(decide, DecideSettings.of(run.config, file), {"who": who}, split=parts, scored=scored)


def scored_val(run: Runner, trained: Trained, step: int) -> Manifest | None:
    """A checkpoint's evaluation, which is not repeated if it was of all rows."""
    return trained.evaluations.get(step) if run.config.evaluation.max_examples == 0 else None


def analyse_scorers(
    run: Runner, parts: Manifest, scorers: Sequence[Scorer], split: SplitName, who: str
) -> Manifest:
    """The analysis of scorers on the same rows, the first compared with each other one."""
    settings = AnalyseSettings(
        split=split,
        scorers=tuple(scorer.settings(split) for scorer in scorers),
        rule_ids=run.context.rulebook.ids,
        seed=run.config.seed,
    )
    inputs: dict[str, Manifest] = {}
    for scorer in scorers:
        inputs |= scorer.inputs(split)
    return run.stage(analyse, settings, {"who": who}, split=parts, **inputs)


def download_adapter(
    run: Runner, parts: Manifest, checkpoint: Manifest | None, phase: Phase = STUDENT
) -> Manifest | None:
    """The adapter of a checkpoint on a server, checked against the server; None for all others."""
    if checkpoint is None or not run.context.capabilities.remote:
        return None
    at = {"phase": phase}
    manifest = run.stage(adapter, AdapterSettings.of(run.config), at, split=parts, checkpoint=checkpoint)
    found = manifest.summary["parity"]
    if found["checked"]:
        log.info(
            "the downloaded adapter scores %d rows as on the server, within %.2g nats",
            found["rows"],
            found["largest"],
        )
    return manifest


def bundle_student(
    run: Runner,
    parts: Manifest,
    exported: Exported,
    home: Manifest | None,
    *,
    kept: Manifest | None = None,
    encoded: Manifest | None = None,
    phase: Phase = STUDENT,
) -> Manifest:
    """Everything that a deployment of the exported checkpoint needs.

    `home` is its downloaded adapter; `kept` and `encoded` are what it learned from, None if from rewards.
    """
    first = exported.modes[0]
    assert first.decision is not None, "what is published has a decision"
    return run.stage(
        bundle,
        BundleSettings.of(run.config, label_only=first.kind == "label_only"),
        {"phase": phase},
        split=parts,
        kept=kept,
        encoded=encoded,
        scored=first.rows["val"],
        decision=first.decision,
        analysis=exported.analysis,
        checkpoint=exported.checkpoint,
        home=home,
    )


def outcome_of(
    run: Runner, parts: Manifest, trained: Trained, chosen: Selection, exported: Exported, **more: Any
) -> Outcome:
    """What a report is made from; `more` are the fields of Outcome that only some pipelines know."""
    return Outcome(
        store=run.store,
        run=run.view.name,
        config=run.config,
        bench=run.context,
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


def _freeze(run: Runner, parts: Manifest, trained: Trained, step: int, who: str) -> list[Scorer]:
    """The configured modes with the decision that is frozen for each, and their rows of val."""
    config, checkpoint = run.config.export, trained.checkpoints.get(step)
    modes: list[Scorer] = []
    if config.reasoning:
        val = score(run, parts, checkpoint, "val", who, scored=scored_val(run, trained, step))
        decision = freeze_decision(run, parts, f"{who}/reasoning", val)
        modes.append(Scorer("student", f"Student (step {step})", "student", {"val": val}, decision))
    if config.label_only:
        same = modes[0].rows["val"] if modes and run.context.label_only_is_the_same else None
        val = score(run, parts, checkpoint, "val", who, label_only=True, scored=same)
        decision = freeze_decision(run, parts, f"{who}/label_only", val)
        title = f"Student (step {step}, label-only prompt)"
        modes.append(Scorer("label_only", title, "label_only", {"val": val}, decision))
    return modes


def _score_splits(
    run: Runner, parts: Manifest, checkpoint: Manifest | None, mode: Scorer, who: str, same: Scorer | None
) -> Scorer:
    """A mode with its rows of the other splits; those of `same`, which asks the same, are taken over."""
    rows = dict(mode.rows)
    for name in run.config.export.splits:
        if name not in rows:
            scored = same.rows.get(name) if same is not None else None
            label_only = mode.kind == "label_only"
            rows[name] = score(run, parts, checkpoint, name, who, label_only=label_only, scored=scored)
    return replace(mode, rows=rows)


def _analyse(
    run: Runner,
    parts: Manifest,
    student: Sequence[Scorer],
    others: Sequence[Scorer],
    split: SplitName,
    who: str,
) -> Manifest:
    """The analysis of the student and the others; of the student alone if that fails."""
    if others:
        with run.optional(Part.COMPARISON):
            return analyse_scorers(run, parts, [*student, *others], split, who)
    return analyse_scorers(run, parts, student, split, who)


def _explain(
    run: Runner, parts: Manifest, checkpoint: Manifest | None, first: Scorer, split: SplitName, who: str
) -> Manifest | None:
    reasons_later = first.kind == "student" and run.config.student.target == "label_first"
    if checkpoint is None or not reasons_later or run.config.export.error_rows == 0:
        return None
    settings, rows = ExplainSettings.of(run.config, split), first.rows[split]
    inputs = {"split": parts, "checkpoint": checkpoint, "scored": rows, "decision": first.decision}
    return run.stage(explain, settings, {"who": who}, **inputs)
