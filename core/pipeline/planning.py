"""What a run, a sweep or reinforcement would do, as text: no Prefect, no torch, nothing is written."""

from __future__ import annotations

from core.completions.journal import Journal
from core.config import ResolvedConfig
from core.data.stage import SplitSettings, split
from core.errors import UnderstudyError, UserError
from core.pipeline import seeds
from core.pipeline.distill import distill
from core.pipeline.estimate import estimate, forecast_reinforcement
from core.pipeline.opening import refuse_other
from core.pipeline.plan_runner import PlanRunner, Promises
from core.pipeline.reinforce import find_start
from core.pipeline.switches import Switches, switches
from core.prompts import Message
from core.records import scan_examples
from core.sweep.arms import Sweep
from core.teacher.stage import forecast_lines


def describe_plan(resolved: ResolvedConfig, switches: Switches) -> str:
    """The plan of a run as text: each stage, then the cost and the first prompts."""
    plan = PlanRunner(resolved, switches)
    plan.walk(distill)
    for seed in seeds.others(resolved.config):
        name = seeds.name_of(resolved.run_name, seed)
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
