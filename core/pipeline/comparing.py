"""What the student is compared with: on the same rows, each with a threshold of its own from val."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from dataclasses import replace

from core import jsonio
from core.errors import ConfigError, DataError, MissingInputError, StoreError, UserError
from core.evaluation.baselines import IMPOSSIBLE, BaselineSettings, baseline
from core.evaluation.threshold import DEFAULT
from core.optional import CLASSICAL, Part
from core.pipeline.exporting import freeze_decision, score, scored_val
from core.pipeline.naming import run_config
from core.pipeline.runners import Runner
from core.pipeline.scorers import BASELINES, Scorer
from core.pipeline.training import Trained
from core.records import SplitName
from core.store import reads
from core.store.manifest import Manifest
from core.store.runs import RunView
from core.teacher.stage import SAMPLES_FILE

log = logging.getLogger(__name__)


def compare_baselines(
    run: Runner, parts: Manifest, trained: Trained, labelled: Mapping[SplitName, Manifest]
) -> list[Scorer]:
    """Score the untrained model with the student's prompt and with the other one, the classical baselines,
    the label-only student that the config names, and the teacher, whose answers by split are `labelled`.

    Each is optional: one that fails is recorded and left out.
    """
    found: list[Scorer] = []
    teacher: list[Scorer] = []
    with run.optional(Part.TEACHER):
        teacher += _teacher(run, labelled)
    with run.optional(Part.UNTRAINED):
        found.append(_untrained(run, parts, scored_val(run, trained, 0)))
    with run.optional(Part.OTHER_PROMPT):
        found += _other_prompt(run, parts)
    found += classical_baselines(run, parts)
    with run.optional(Part.LABEL_ONLY_RUN):
        found += _label_only_student(run, parts)
    return [*found, *teacher]


def classical_baselines(run: Runner, parts: Manifest) -> list[Scorer]:
    """Majority and TF-IDF with logistic regression, from one stage."""
    out: list[Scorer] = []
    with run.optional(Part.BASELINES):
        found = run.stage(baseline, BaselineSettings(seed=run.config.seed), split=parts)
        for name, about in jsonio.read_json(run.store.file(found, BASELINES)).items():
            if IMPOSSIBLE in about:
                run.leave_out(CLASSICAL[name], DataError(about[IMPOSSIBLE]))
                continue
            rows: dict[SplitName, Manifest] = dict.fromkeys(_splits(run), found)
            scorer = Scorer(name, about["title"], "baseline", rows, file=f"{name}_{{split}}.jsonl")
            with run.optional(CLASSICAL[name]):
                out.append(_with_decision(run, parts, scorer, found))
    return out


def _with_decision(run: Runner, parts: Manifest, scorer: Scorer, found: Manifest) -> Scorer:
    """The threshold of majority is 0.5 by definition: chosen on val, it would predict the majority of val."""
    if scorer.name == "majority":
        return replace(scorer, threshold=DEFAULT)
    return replace(scorer, decision=freeze_decision(run, parts, scorer.name, found, scorer.file_of("val")))


def _untrained(run: Runner, parts: Manifest, val: Manifest | None) -> Scorer:
    """Step 0, which training has already scored on val."""
    rows: dict[SplitName, Manifest] = {"val": val} if val is not None else {}
    return _score_untrained(run, parts, "untrained", "Untrained student", rows)


def _other_prompt(run: Runner, parts: Manifest) -> list[Scorer]:
    """The untrained model with the rulebook shown, or hidden where the student's own prompt shows it."""
    if not run.config.baselines.other_prompt:
        return []
    shown = not run.config.student.rulebook
    name, how = ("untrained_rulebook", "with") if shown else ("untrained_no_rulebook", "without")
    run.context.check_room(rulebook=shown)
    return [_score_untrained(run, parts, name, f"Untrained student ({how} rulebook)", {}, rulebook=shown)]


def _score_untrained(
    run: Runner,
    parts: Manifest,
    name: str,
    title: str,
    rows: Mapping[SplitName, Manifest],
    *,
    rulebook: bool | None = None,
) -> Scorer:
    found = dict(rows)
    for split in _splits(run):
        if split not in found:
            found[split] = score(run, parts, None, split, name, rulebook=rulebook)
    return Scorer(name, title, "untrained", found, freeze_decision(run, parts, name, found["val"]))


def check_label_only_run(run: Runner, parts: Manifest | None = None) -> None:
    """Refuse a run in baselines.label_only_run that cannot be compared, before any work.

    Without `parts`, its record decides; with them, whether it has the same split. Damaged files are not a
    mistake of this config: the baseline is then left out later. Raises UserError, or MissingInputError if
    there is no such run.
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


def _label_only_student(run: Runner, parts: Manifest) -> list[Scorer]:
    """The student of another run that learned labels without reasons; see baselines.label_only_run."""
    named = run.config.baselines.label_only_run
    if named is None:
        return []
    view = _usable(run, named)
    _check_split(view, parts)
    rows = {s: view.earlier(f"export/student/{s}/reasoning", file=f"{s}.json") for s in _splits(run)}
    decision = view.earlier("decide/student/reasoning", file="student_phase/decision.json")
    return [Scorer("label_only_run", f"Label-only student (run {named})", "baseline", rows, decision)]


def _usable(run: Runner, named: str) -> RunView:
    """The run that baselines.label_only_run names. Raises UserError if its record does not fit."""
    view = _finished(run, named)
    target = run_config(view).config.student.target
    if target != "label_only":
        raise UserError(
            f"baselines.label_only_run: the student of run {named} learned {target}, not label_only; name "
            "a run with student.target: label_only"
        )
    if lacking := [s for s in _splits(run) if f"export/student/{s}/reasoning" not in view.stages()]:
        raise UserError(
            f"baselines.label_only_run: run {named} has no scores of {lacking[0]}; it needs "
            f"export.reasoning, and {lacking[0]} in export.splits"
        )
    return view


def _check_split(view: RunView, parts: Manifest) -> None:
    split = view.earlier("split", file="data_splits/test.csv")
    if reads.digest(split) != reads.digest(parts):
        raise UserError(
            f"baselines.label_only_run: run {view.name} has another test split, so that its student cannot "
            "be compared; run it on the same data and split"
        )


def _finished(run: Runner, named: str) -> RunView:
    """The run that baselines.label_only_run names, which is finished and not this one."""
    view = RunView(run.store, named)
    if named == run.config.run.name:
        raise UserError(f"baselines.label_only_run names run {named} itself; name another run")
    run_config(view)  # whether there is such a run
    recorded = view.state()
    state = "unknown" if recorded is None else recorded.state
    if state != "finished":
        raise UserError(
            f"baselines.label_only_run: run {named} is not finished (state {state}), so that its "
            "files may be of two students; finish it first"
        )
    return view


def _teacher(run: Runner, labelled: Mapping[SplitName, Manifest]) -> list[Scorer]:
    if not labelled:
        return []
    model = next(iter(labelled.values())).summary["teacher_model"]
    title = f"Teacher ({model})"
    return [Scorer("teacher", title, "teacher", labelled, labels_only=True, file=SAMPLES_FILE)]


def _splits(run: Runner) -> tuple[SplitName, ...]:
    """Val, on which decisions are fitted, and test if it is exported."""
    return ("val", "test") if "test" in run.config.export.splits else ("val",)
