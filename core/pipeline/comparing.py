"""The scorers that the student is compared with on the same rows, each with its own threshold from val."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from dataclasses import replace

from core.errors import ConfigError, DataError, MissingInputError, StoreError, UserError
from core.evaluation.baselines import BaselineSettings, baseline
from core.evaluation.threshold import DEFAULT
from core.optional import CLASSICAL, Part
from core.pipeline.exporting import freeze_decision, score, scored_val
from core.pipeline.opening import run_config
from core.pipeline.runners import Runner
from core.pipeline.scorers import BASELINES, Scorer, read_baselines
from core.pipeline.training import Trained
from core.records import SplitName
from core.store import reads
from core.store.manifest import Manifest
from core.store.runs import RunView
from core.teacher.base import SampleSummary
from core.teacher.stage import SAMPLES_FILE

log = logging.getLogger(__name__)


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
        found.append(_score_untrained(run, parts, "untrained", "Untrained student", scored))
    with run.optional(Part.OTHER_PROMPT):
        if run.config.baselines.other_prompt:
            shown = not run.config.student.rulebook
            name, how = ("untrained_rulebook", "with") if shown else ("untrained_no_rulebook", "without")
            run.context.check_room(rulebook=shown)
            title = f"Untrained student ({how} rulebook)"
            found.append(_score_untrained(run, parts, name, title, None, rulebook=shown))
    found += classical_baselines(run, parts)
    with run.optional(Part.LABEL_ONLY_RUN):
        if (named := run.config.baselines.label_only_run) is not None:
            found.append(_label_only_student(run, parts, named))
    with run.optional(Part.TEACHER):
        if labeled:
            answers, model = next(iter(labeled.values())), "not asked yet"
            if run.exists(answers):
                model = SampleSummary.from_json(answers.summary, answers.path).teacher_model
            title = f"Teacher ({model})"
            found.append(Scorer("teacher", title, "teacher", labeled, labels_only=True, file=SAMPLES_FILE))
    return found


def classical_baselines(run: Runner, parts: Manifest) -> list[Scorer]:
    """Majority and TF-IDF with logistic regression, from one stage."""
    out: list[Scorer] = []
    with run.optional(Part.BASELINES):
        found = run.stage(baseline, BaselineSettings(seed=run.config.seed), split=parts)
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


def _score_untrained(
    run: Runner, parts: Manifest, name: str, title: str, val: Manifest | None, *, rulebook: bool | None = None
) -> Scorer:
    """The untrained model; `val` are its scores of val if they exist."""
    rows: dict[SplitName, Manifest] = {} if val is None else {"val": val}
    for split in _splits(run):
        if split not in rows:
            rows[split] = score(run, parts, None, split, name, rulebook=rulebook)
    return Scorer(name, title, "untrained", rows, freeze_decision(run, parts, name, rows["val"]))


def check_label_only_run(run: Runner, parts: Manifest | None = None) -> None:
    """Refuse a run in baselines.label_only_run that cannot be compared, before any work.

    Without `parts`, its record decides; with them, whether it has the same split. Damaged files are not a
    mistake of this config: the baseline is then left out later. Raises UserError, or MissingInputError if
    that run does not exist.
    """
    named = run.config.baselines.label_only_run
    if named is None:
        return
    try:
        view = _usable(run, named)
        if parts is not None and "split" in view.stages():
            with contextlib.suppress(MissingInputError):
                _check_split(view, parts)
    except (StoreError, ConfigError) as e:
        log.debug("run %s of baselines.label_only_run cannot be read: %s", named, e)


def _label_only_student(run: Runner, parts: Manifest, named: str) -> Scorer:
    """The student of another run that learned labels without reasons; see baselines.label_only_run."""
    view = _usable(run, named)
    _check_split(view, parts)
    rows = {s: view.earlier(f"export/student/{s}/reasoning", file=f"{s}.json") for s in _splits(run)}
    decision = view.earlier("decide/student/reasoning", file="student_phase/decision.json")
    return Scorer("label_only_run", f"Label-only student (run {named})", "baseline", rows, decision)


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
    if reads.digest(split) != reads.digest(parts):
        raise UserError(
            f"baselines.label_only_run: run {view.name} has another test split, so that its student cannot "
            "be compared; run it on the same data and split"
        )


def _splits(run: Runner) -> tuple[SplitName, ...]:
    """Val, on which decisions are fitted, and test if it is exported."""
    return ("val", "test") if "test" in run.config.export.splits else ("val",)
