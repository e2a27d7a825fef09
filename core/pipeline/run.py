"""Runs of a config in this process, without Prefect, and what they would do: a plan as text."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from core.completions import Journal
from core.config import Config, ResolvedConfig
from core.config.loading import load
from core.data.stage import SplitSettings, split
from core.errors import ConfigError, MissingInputError, StageError, UnderstudyError, UserError
from core.evaluation.decision import select
from core.evaluation.student_scores import METRICS_FILE, read_metrics
from core.pipeline.distillation import distill, perform_report
from core.pipeline.exporting import export_checkpoint
from core.pipeline.opening import opened, other_seeds, refuse_other, resolve_seed, seed_run_name
from core.pipeline.outcome import Outcome
from core.pipeline.plan_runners import PlanRunner, Promises, estimate
from core.pipeline.reinforcement import find_start, forecast_reinforcement
from core.pipeline.reinforcement import reinforce as reinforce_student
from core.pipeline.reporting import page_of, write_exports
from core.pipeline.runners import Runner, Switches, switches
from core.pipeline.training_loop import Trained, adapter_path
from core.prompts import Message
from core.records import scan_examples
from core.report import plural
from core.results import ReinforcementResult, RunResult, load_reinforcement_result, load_run_result
from core.store import Store
from core.summary.sweep_arms import Ended, Sweep
from core.summary.sweep_report import write_sweep_report
from core.teacher.stage import forecast_lines

log = logging.getLogger(__name__)
_HISTORY = "student_phase/train_history.jsonl"


def run(
    config: Config | ResolvedConfig | Path | str,
    *,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    refresh: Sequence[str] = (),
    new: bool = False,
) -> RunResult | None:
    """Run the pipeline of a config, reusing every stage whose ingredients did not change.

    `config` may be a path. `only`, `skip` and `refresh` name stages, as on the command line; with `new`, a
    run of another config that has this name is kept under another one. Returns what run_summary.json
    contains; None if the last stages are switched off. Raises UnderstudyError.
    """
    resolved = resolve_for_run(config)
    chosen = switches(resolved.config.stages, only, skip, refresh)
    with opened(resolved, chosen, Runner, new=new) as this:
        outcome = distill_all(this, lambda seed: run(seed, only=only, skip=skip, refresh=refresh, new=new))
        return None if outcome is None else load_run_result(this.store, this.view.name)


def reinforce(
    config: Config | ResolvedConfig | Path | str,
    start: str | None = None,
    *,
    refresh: Sequence[str] = (),
    replace: bool = False,
) -> ReinforcementResult | None:
    """Reinforce a student by a config's `reinforce:`, in the run's rl_phase/.

    `start` is a run whose published student to start from, "latest", or "base"; by default the run's own
    student. With `replace`, files of a reinforcement with other settings are replaced. Returns what
    rl_phase/rl_summary.json contains. Raises UnderstudyError.
    """
    resolved = resolve_for_run(config)
    with opened(resolved, switches(resolved.config.stages, refresh=refresh), Runner) as this:
        finish(this, reinforce_student(this, start, replace=replace))
        return load_reinforcement_result(this.store, this.view.name)


def resolve_for_run(config: Config | ResolvedConfig | Path | str, origin: str = "argument") -> ResolvedConfig:
    """A config with the origin of each value. Raises ConfigError if the run has no name."""
    if isinstance(config, ResolvedConfig):
        return config
    if isinstance(config, Path | str):
        return load(Path(config))
    if config.run.name is None:
        raise ConfigError("run.name is missing: a run that is started from parameters needs one")
    return ResolvedConfig.from_parameter(config, origin)


def distill_all(run: Runner, distill_seed: Callable[[ResolvedConfig], object]) -> Outcome | None:
    """Distill, then call `distill_seed` for each other seed, whose run the report includes."""
    outcome = distill(run)
    if outcome is None:
        log.info("the stages after %s are off: no report, nothing published", run.switches.last)
        return None
    if others := other_seeds(run.config):
        for seed in others:
            distill_seed(resolve_seed(run.resolved, seed))
        perform_report(run, outcome)
    finish(run, outcome)
    return outcome


def finish(run: Runner, outcome: Outcome) -> None:
    """End the trackers and show the run; optional parts that fail only now are added to the report."""
    last: list[Callable[[], None]] = [lambda: run.trackers.finish(run.view), lambda: run.show(outcome.phase)]
    for step in last:
        before = len(run.failures)
        step()
        if len(run.failures) > before:
            perform_report(run, outcome)
    if run.failures:
        where = run.view.where(outcome.phase.report)
        log.warning("optional parts left out: %d; %s lists them", len(run.failures), where)


def report_page(run: Runner, outcome: Outcome | None) -> str:
    """Where to look at the results: the report, or the run's folder without one."""
    return run.view.where("" if outcome is None else page_of(outcome))


def run_sweep(
    sweep: Sweep, run_arm: Callable[[ResolvedConfig], object], show: Callable[[Store, Sweep], None]
) -> str:
    """Run every arm and return where the report that compares them is.

    A failed arm does not stop the others. The report covers the finished arms; `show` shows it. Then the
    sweep raises StageError if an arm failed.
    """
    ended: list[Ended] = []
    for i, arm in enumerate(sweep.arms, start=1):
        log.info("arm %s (%d of %d): run %s", arm.name, i, len(sweep.arms), arm.run)
        try:
            run_arm(arm.resolved)
            ended.append(Ended(arm))
        except Exception as e:  # the other arms do not depend on this one
            log.error("arm %s: %s", arm.name, e)
            ended.append(Ended(arm, str(e) or type(e).__name__))
    store = Store.open(sweep.root)
    where = write_sweep_report(store, sweep, ended)
    show(store, sweep)
    failed = [each for each in ended if each.error is not None]
    if failed:
        arms = plural(len(sweep.arms), "arm")
        head = f"{len(failed)} of {arms} did not finish; the report of the others is {where}"
        raise StageError("\n".join([head, *(f"arm {each.arm.name}: {each.error}" for each in failed)]))
    return where


def evaluate_checkpoint(run: Runner, checkpoint: str = "best") -> str:
    """Measure `checkpoint` (best, final, step_<n>, or the path of one of the run's adapters).

    Returns the folder with predictions and metrics. Nothing else of the run is changed, and nothing is
    published. Raises MissingInputError if the checkpoint does not exist.
    """
    view = run.view
    parts, trained = view.earlier("split", file="data_splits/train.csv"), recorded_training(run)
    chosen = select(trained.curve, run.config.evaluation.metric)
    step = _named_step(checkpoint, trained, chosen.step, run)
    exported = export_checkpoint(run, parts, trained, step, f"step_{step}")
    folder, selection = f"student_phase/step_{step}", dataclasses.replace(chosen, step=step)
    write_exports(Outcome(run, parts, trained, selection, exported), folder)
    return view.where(folder)


def recorded_training(run: Runner) -> Trained:
    """The training and the evaluations in the run's record."""
    trained, stages = Trained(), run.view.stages()
    for step in sorted(int(slot.partition("/")[2]) for slot in stages if slot.startswith("train/")):
        trained.checkpoints[step] = run.view.earlier(f"train/{step}", file=_HISTORY)
    for step in (0, *trained.checkpoints):
        if f"evaluate/{step}" in stages:
            file = f"student_phase/metrics_val_step_{step}.json"
            manifest = run.view.earlier(f"evaluate/{step}", file=file)
            trained.add(step, manifest, run.read(manifest, METRICS_FILE, read_metrics))
    return trained


def _named_step(checkpoint: str, trained: Trained, best: int, run: Runner) -> int:
    """The step of a named checkpoint. Raises MissingInputError naming those that exist."""
    if checkpoint in ("best", "final"):
        return best if checkpoint == "best" else trained.last
    match = re.fullmatch(r"step_(\d+)", checkpoint)
    if match and (int(match[1]) in trained.checkpoints or match[1] == "0"):
        return int(match[1])
    path = checkpoint.rstrip("/")
    for step, manifest in trained.checkpoints.items():
        under_root = [p for p in (manifest.folder, adapter_path(manifest)) if p is not None]
        places = [run.store.where(p) for p in under_root]
        if path in (*under_root, *places) or str(Path(path).absolute()) in places:
            return step
    there = ", ".join(["best", "final", *(f"step_{s}" for s in (0, *trained.checkpoints))])
    raise MissingInputError(f"run {run.view.name} has no checkpoint {checkpoint}; there are {there}")


def describe_plan(resolved: ResolvedConfig, switches: Switches) -> str:
    """The plan of a run as text: each stage, then the cost and the first prompts."""
    plan = PlanRunner(resolved, switches)
    plan.walk(distill)
    for seed in other_seeds(resolved.config):
        name = seed_run_name(resolved.run_name, seed)
        plan.lines.append((f"seed {seed}", f"{name}, another run: the same from train on"))
    head = [f"run {resolved.run_name} under {plan.store.backend.url}", ""]
    obstacles = [*_needed_keys(plan), *_refusal(plan, "run")]
    return "\n".join([*head, *obstacles, *plan.stages(), "", *_student_cost(plan), *_first_prompts(plan)])


def describe_sweep(sweep: Sweep) -> str:
    """The plan of each arm as text; objects that an earlier arm would have built by then are marked."""
    promises: Promises = {}
    lines = [f"sweep {sweep.name} on {sweep.base}: {len(sweep.arms)} arms under {sweep.root}"]
    for arm in sweep.arms:
        plan = PlanRunner(arm.resolved, switches(arm.resolved.config.stages), arm.name, promises)
        plan.walk(distill)
        lines += ["", f"arm {arm.name}, run {arm.run}: {' '.join(arm.sets) or 'as the base'}"]
        obstacles = [*_refusal(plan, "sweep"), *_needed_keys(plan)]
        described = (*obstacles, *plan.stages(), *_student_cost(plan))
        lines += [f"  {line}" for line in described if line]
    return "\n".join(lines)


def describe_reinforcement(resolved: ResolvedConfig, source: str | None) -> str:
    """The start, the steps and their price as text; if the data is not split, how to get further."""
    plan = PlanRunner(resolved, switches(resolved.config.stages))
    plan.context.preflight(online=False)
    parts = plan.stage(split, SplitSettings.of(resolved.config))
    if not plan.exists(parts):
        return "the data is not split yet: run `understudy run` first, or reinforce without --plan"
    head = f"run {plan.view.name} under {plan.store.backend.url}, from {find_start(plan, parts, source)}"
    return "\n".join([head, *_needed_keys(plan), *forecast_reinforcement(plan, parts)])


def _refusal(plan: PlanRunner, command: str) -> list[str]:
    """Why a run would not begin, if its name belongs to another config."""
    try:
        refuse_other(plan.view, plan.resolved)
    except UserError as e:
        return [f"`understudy {command}` would stop here: {e}", ""]
    return []


def _needed_keys(plan: PlanRunner) -> list[str]:
    missing = [f"the run will need a key: {sentence}" for sentence in plan.context.missing_keys()]
    return [*missing, ""] if missing else []


def _student_cost(plan: PlanRunner) -> list[str]:
    """The cost of a student on a server, including stages that exist already."""
    if not plan.context.capabilities.metered:
        return []
    if plan.known("split") is None:
        return ["(the cost of the student is known once the data is split: --only split)"]
    try:
        return [*estimate(distill, plan).lines(), ""]
    except UnderstudyError as e:
        return [f"(the cost of the student is not known: {e})", ""]


def _first_prompts(plan: PlanRunner) -> list[str]:
    """The cost of a live teacher, and the prompts of teacher and student for the first training text."""
    parts, context = plan.known("split"), plan.context
    if parts is None:
        return ["(the first prompt can be shown once the data is split)"]
    lines: list[str] = []
    if plan.config.teacher.kind == "openai":
        with Journal.open(plan.store, plan.view.name, completes_uploads=False) as journal:
            lines += [*forecast_lines(plan.config, plan.store, parts, journal), ""]
    example = next(iter(scan_examples(plan.store.file(parts, "train.csv"))))
    return [
        *lines,
        f"first prompt of the teacher ({plan.config.teacher.kind}), text {example.id}:",
        *_shown(context.prompts.teacher_messages(example.text, context.rulebook.text)),
        "",
        "first prompt of the student:",
        *_shown(context.student_messages(example.text)),
    ]


def _shown(messages: tuple[Message, ...]) -> list[str]:
    return [
        f"  [{m.role}] {line}" if i == 0 else f"    {line}"
        for m in messages
        for i, line in enumerate(m.content.splitlines())
    ]
