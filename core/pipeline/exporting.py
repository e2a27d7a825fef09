"""The end of a run, with checkpoint, calibration and threshold frozen: test is read once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from core.bundle.stage import BundleSettings, bundle
from core.evaluation.analysis import AnalyseSettings, analyse
from core.evaluation.decision import DecideSettings, decide
from core.evaluation.predictions import SCORES
from core.evaluation.stages import ExplainSettings, MeasureSettings, explain, export
from core.export.adapter import AdapterSettings, adapter
from core.optional import Part
from core.pipeline.run_folder import STUDENT, Phase
from core.pipeline.runners import Runner
from core.pipeline.scorers import Scorer
from core.pipeline.training import Trained
from core.records import SplitName
from core.results import AdapterDownload
from core.store.manifest import Manifest

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Exported:
    """A checkpoint in each of its modes, the scorers it is compared with, and the analysis."""

    checkpoint: Manifest | None
    """None for the untrained model."""
    modes: Sequence[Scorer]
    """The first one is published."""
    others: Sequence[Scorer]
    split: SplitName
    """The split that was analyzed: test, or val if test is not exported."""
    analysis: Manifest
    explained: Manifest | None
    """The student's reasoning about its worst errors, if it does not reason about every row."""


def export_checkpoint(
    run: Runner, parts: Manifest, trained: Trained, step: int, who: str, others: Sequence[Scorer] = ()
) -> Exported:
    """Freeze a checkpoint's decisions on val, then score the other splits, then analyze."""
    checkpoint, splits = trained.checkpoints.get(step), run.config.export.splits
    frozen = _freeze(run, parts, trained, step, who)
    if "test" in splits:
        decisions = [mode.frozen for mode in frozen]
        run.note_read_of_test(parts, [*([checkpoint] if checkpoint else []), *decisions], f"step {step}")
    same = len(frozen) > 1 and run.context.label_only_is_the_same
    modes: list[Scorer] = []
    for mode in frozen:
        rows, label_only = dict(mode.rows), mode.kind == "label_only"
        for name in splits:
            if name not in rows:
                copied = modes[0].rows.get(name) if modes and same else None
                rows[name] = score(run, parts, checkpoint, name, who, label_only=label_only, scored=copied)
        modes.append(replace(mode, rows=rows))
    split: SplitName = "test" if "test" in splits else "val"
    # A label-only mode with the same prompt as the first would be compared with itself.
    student, rest = modes[:1] if same else modes, [s for s in others if split in s.rows]
    analysis: Manifest | None = None
    if rest:
        with run.optional(Part.COMPARISON):
            analysis = analyse_scorers(run, parts, [*student, *rest], split, who)
    analysis = analysis or analyse_scorers(run, parts, student, split, who)
    explained: Manifest | None = None
    if checkpoint is not None and modes[0].kind == "student":
        with run.optional(Part.EXPLANATIONS):
            if run.config.student.target == "label_first" and run.config.export.error_rows > 0:
                inputs = {"scored": modes[0].rows[split], "decision": modes[0].decision}
                settings, at = ExplainSettings.of(run.config, split), {"who": who}
                explained = run.stage(explain, settings, at, split=parts, checkpoint=checkpoint, **inputs)
    return Exported(checkpoint, modes, others, split, analysis, explained)


def _freeze(run: Runner, parts: Manifest, trained: Trained, step: int, who: str) -> list[Scorer]:
    """The configured modes with their frozen decisions and their rows of val."""
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

    `scored` are earlier scores of the same rows. `rulebook` shows it or hides it; by default as in the
    student's own prompt.
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


def bundle_student(
    run: Runner,
    parts: Manifest,
    exported: Exported,
    phase: Phase = STUDENT,
    *,
    kept: Manifest | None = None,
    encoded: Manifest | None = None,
) -> tuple[Manifest | None, Manifest]:
    """The adapter of the exported checkpoint if it was on a server, and all that a deployment needs.

    The downloaded adapter is checked against the server. `kept` and `encoded` are what the student learned
    from, None if from rewards.
    """
    first, checkpoint, at = exported.modes[0], exported.checkpoint, {"phase": phase}
    home: Manifest | None = None
    if checkpoint is not None and run.context.capabilities.remote:
        home = run.stage(adapter, AdapterSettings.of(run.config), at, split=parts, checkpoint=checkpoint)
        parity = AdapterDownload.from_json(home.summary, home.path).parity if run.executes else None
        if parity is not None and parity.checked:
            what = "downloaded adapter matches the server on %d rows (maximum difference %.2g nats)"
            log.info(what, parity.rows, parity.largest)
    bundled = run.stage(
        bundle,
        BundleSettings.of(run.config, label_only=first.kind == "label_only"),
        at,
        split=parts,
        kept=kept,
        encoded=encoded,
        scored=first.rows["val"],
        decision=first.frozen,
        analysis=exported.analysis,
        checkpoint=checkpoint,
        home=home,
    )
    return home, bundled
