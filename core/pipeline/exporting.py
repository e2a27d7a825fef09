"""The end of a run: test is read once, with checkpoint, calibration and threshold frozen on val, and the
student is compared with other scorers on the same rows, each with its own threshold from val.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from core import jsonio
from core.errors import CLASSICAL, ConfigError, DataError, MissingInputError, Part, StoreError, UserError
from core.evaluation.analysis import AnalyseSettings, Kind, ScorerSettings, analyse
from core.evaluation.baselines import BaselineSettings, baseline
from core.evaluation.decision import DecideSettings, decide
from core.evaluation.embeddings import EmbedSettings, embed
from core.evaluation.predictions import SCORES
from core.evaluation.student_scores import ExplainSettings, MeasureSettings, explain, export
from core.evaluation.threshold import DEFAULT
from core.export.stage import AdapterSettings, BundleSettings, adapter, bundle
from core.jsonio import Record
from core.pipeline.opening import run_config
from core.pipeline.run_context import STUDENT, Phase
from core.pipeline.runners import Runner
from core.pipeline.training_loop import Trained
from core.records import SplitName
from core.results import AdapterDownload, GridPoint, Setting
from core.store import Manifest, RunView
from core.store.run_view import split_digest
from core.teacher.samples import SampleSummary
from core.teacher.stage import SAMPLES_FILE

BASELINES = "baselines.json"
"""The file of the baseline stage that describes how each baseline was fitted."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Scorer:
    """Something that scores rows: its scores by split, and its decision, which was frozen on val.

    It has one of `decision`, `threshold` (fixed by definition) and `labels_only` (a teacher's answers).
    `file` is the name of its rows in the objects of `rows`, in which {split} is replaced.
    """

    name: str
    title: str
    kind: Kind
    rows: Mapping[SplitName, Manifest]
    decision: Manifest | None = None
    threshold: float | None = None
    labels_only: bool = False
    file: str = SCORES

    def settings(self, split: SplitName) -> ScorerSettings:
        return ScorerSettings(
            name=self.name,
            title=self.title,
            kind=self.kind,
            scored=self.name,
            file=self.file.format(split=split),
            decision=None if self.decision is None else f"{self.name} decision",
            threshold=self.threshold,
            labels_only=self.labels_only,
        )

    def inputs(self, split: SplitName) -> dict[str, Manifest]:
        found = {self.name: self.rows[split]}
        return found if self.decision is None else {**found, f"{self.name} decision": self.decision}


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentMode(Scorer):
    """A checkpoint with one of its prompts. Its decision was frozen on `val`, its scores of val."""

    decision: Manifest
    val: Manifest


class FittedBaseline(Record):
    """How a classical baseline was fitted, as baselines.json describes it."""

    title: str
    impossible: str | None = None
    """Why it cannot be fitted to these rows."""
    trained_on: str | None = None
    settings: dict[str, Setting | list[Setting]] | None = None
    grid: tuple[GridPoint, ...] | None = None
    settings_reason: str | None = None


def read_baselines(path: Path) -> dict[str, FittedBaseline]:
    """The classical baselines of a BASELINES file, by name."""
    return {
        name: FittedBaseline.from_json(about, f"{path}: {name}")
        for name, about in jsonio.read_json(path).items()
    }


@dataclass(frozen=True, slots=True)
class Exported:
    """A checkpoint in each of its modes, the scorers it is compared with, and the analysis."""

    checkpoint: Manifest | None
    """None for the untrained model."""
    modes: Sequence[StudentMode]
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
        decisions = [mode.decision for mode in frozen]
        run.note_read_of_test(parts, [*([checkpoint] if checkpoint else []), *decisions], f"step {step}")
    same = len(frozen) > 1 and run.context.label_only_is_the_same
    modes: list[StudentMode] = []
    for mode in frozen:
        rows, label_only = dict(mode.rows), mode.kind == "label_only"
        for name in splits:
            if name not in rows:
                copied = modes[0].rows.get(name) if modes and same else None
                rows[name] = score(run, parts, checkpoint, name, who, label_only=label_only, scored=copied)
        modes.append(replace(mode, rows=rows))
    split = _splits(run)[-1]
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


def _freeze(run: Runner, parts: Manifest, trained: Trained, step: int, who: str) -> list[StudentMode]:
    """The configured modes with their frozen decisions and their rows of val."""
    config, checkpoint = run.config.export, trained.checkpoints.get(step)
    modes: list[StudentMode] = []
    if config.reasoning:
        val = score(run, parts, checkpoint, "val", who, scored=scored_val(run, trained, step))
        decision = freeze_decision(run, parts, f"{who}/reasoning", val)
        title = f"Student (step {step})"
        modes.append(StudentMode("student", title, "student", {"val": val}, decision=decision, val=val))
    if config.label_only:
        same = modes[0].val if modes and run.context.label_only_is_the_same else None
        val = score(run, parts, checkpoint, "val", who, label_only=True, scored=same)
        decision = freeze_decision(run, parts, f"{who}/label_only", val)
        title = f"Student (step {step}, label-only prompt)"
        modes.append(StudentMode("label_only", title, "label_only", {"val": val}, decision=decision, val=val))
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
        scored=first.val,
        decision=first.decision,
        analysis=exported.analysis,
        checkpoint=checkpoint,
        home=home,
    )
    return home, bundled


def compare_baselines(
    run: Runner, parts: Manifest, trained: Trained, labeled: Mapping[SplitName, Manifest]
) -> list[Scorer]:
    """Score the untrained model with the student's prompt and with the other one, the classical baselines,
    the label-only student that the config names, and the teacher, whose answers by split are `labeled`.

    Each is optional: one that fails is recorded and left out.
    """
    found: list[Scorer] = []
    with run.optional(Part.UNTRAINED):
        scored = scored_val(run, trained, 0)  # training has scored step 0 on val already
        found.append(score_untrained(run, parts, "untrained", "Untrained student", scored))
    with run.optional(Part.OTHER_PROMPT):
        if run.config.baselines.other_prompt:
            shown = not run.config.student.rulebook
            name, how = ("untrained_rulebook", "with") if shown else ("untrained_no_rulebook", "without")
            run.context.check_room(rulebook=shown)
            title = f"Untrained student ({how} rulebook)"
            found.append(score_untrained(run, parts, name, title, None, rulebook=shown))
    found += classical_baselines(run, parts)
    with run.optional(Part.LABEL_ONLY_RUN):
        if (named := run.config.baselines.label_only_run) is not None:
            view = _usable(run, named)
            _check_split(view, parts)
            rows = {s: view.earlier(f"export/student/{s}/reasoning", file=f"{s}.json") for s in _splits(run)}
            decision = view.earlier("decide/student/reasoning", file="student_phase/decision.json")
            title = f"Label-only student (run {named})"
            found.append(Scorer("label_only_run", title, "baseline", rows, decision))
    with run.optional(Part.TEACHER):
        if labeled:
            answers, model = next(iter(labeled.values())), "not asked yet"
            if run.exists(answers):
                model = SampleSummary.from_json(answers.summary, answers.path).teacher_model
            title = f"Teacher ({model})"
            found.append(Scorer("teacher", title, "teacher", labeled, labels_only=True, file=SAMPLES_FILE))
    return found


def classical_baselines(run: Runner, parts: Manifest) -> list[Scorer]:
    """Majority, and logistic regression on TF-IDF and on sentence embeddings, from one stage."""
    out: list[Scorer] = []
    embedded: Manifest | None = None
    with run.optional(Part.ENCODER):
        if (encoder := run.config.baselines.encoder) is not None:
            embedded = run.stage(embed, EmbedSettings(encoder=encoder), split=parts)
    with run.optional(Part.BASELINES):
        settings = BaselineSettings(seed=run.config.seed)
        found = run.stage(baseline, settings, split=parts, embed=embedded)
        for name, about in run.read(found, BASELINES, read_baselines).items():
            rows: dict[SplitName, Manifest] = dict.fromkeys(_splits(run), found)
            scorer = Scorer(name, about.title, "baseline", rows, file=f"{name}_{{split}}.jsonl")
            with run.optional(CLASSICAL[name]):
                if about.impossible is not None:
                    raise DataError(about.impossible)
                if name == "majority":  # a threshold chosen on val would predict the majority of val
                    out.append(replace(scorer, threshold=DEFAULT))
                else:
                    frozen = freeze_decision(run, parts, name, found, f"{name}_val.jsonl")
                    out.append(replace(scorer, decision=frozen))
    return out


def score_untrained(
    run: Runner,
    parts: Manifest,
    name: str,
    title: str,
    val: Manifest | None,
    *,
    who: str | None = None,
    checkpoint: Manifest | None = None,
    rulebook: bool | None = None,
) -> Scorer:
    """A student before training: the untrained model, or the checkpoint that reinforcement started from.

    `val` are its scores of val if they exist, `who` is its name in slots if that is not `name`.
    """
    who = who or name
    val = val or score(run, parts, checkpoint, "val", who, rulebook=rulebook)
    rows: dict[SplitName, Manifest] = {"val": val}
    if "test" in run.config.export.splits:
        rows |= {"test": score(run, parts, checkpoint, "test", who, rulebook=rulebook)}
    return Scorer(name, title, "untrained", rows, freeze_decision(run, parts, who, val))


def check_label_only_run(run: Runner, parts: Manifest | None = None) -> None:
    """Refuse a run in baselines.label_only_run that cannot be compared, before any work.

    Does nothing if baselines are off. Without `parts`, its record decides; with them, whether it has the same
    split. Damaged files are not a mistake of this config: the baseline is then left out later. Raises
    UserError, or MissingInputError if that run does not exist.
    """
    named = run.config.baselines.label_only_run
    if named is None or not run.switches.on(baseline):
        return
    try:
        view = _usable(run, named)
        if parts is not None:
            with contextlib.suppress(MissingInputError):
                _check_split(view, parts)
    except (StoreError, ConfigError) as e:
        log.debug("run %s of baselines.label_only_run cannot be read: %s", named, e)


def _usable(run: Runner, named: str) -> RunView:
    """The run that baselines.label_only_run names. Raises UserError if it cannot be compared."""
    setting = "baselines.label_only_run"
    if named == run.config.run.name:
        raise UserError(f"{setting} names run {named} itself; name another run")
    view = RunView(run.store, named)
    target, recorded = run_config(view).config.student.target, view.state()
    state = "unknown" if recorded is None else recorded.state
    if state != "finished":
        raise UserError(
            f"{setting}: run {named} is not finished (state {state}), so that its files may be of two "
            "students; finish it first"
        )
    if target != "label_only":
        raise UserError(
            f"{setting}: the student of run {named} learned {target}, not label_only; name a run with "
            "student.target: label_only"
        )
    if lacking := [s for s in _splits(run) if f"export/student/{s}/reasoning" not in view.stages()]:
        raise UserError(
            f"{setting}: run {named} has no scores of {lacking[0]}; it needs export.reasoning, and "
            f"{lacking[0]} in export.splits"
        )
    return view


def _check_split(view: RunView, parts: Manifest) -> None:
    split = view.earlier("split", file="data_splits/test.csv")
    if split_digest(split) != split_digest(parts):
        raise UserError(
            f"baselines.label_only_run: run {view.name} has another test split, so that its student cannot "
            "be compared; run it on the same data and split"
        )


def _splits(run: Runner) -> tuple[SplitName, ...]:
    """Val, on which decisions are fitted, and test if it is exported."""
    return ("val", "test") if "test" in run.config.export.splits else ("val",)
