"""What a run would do, without doing it: no Prefect, no torch, nothing written.

A plan walks the pipeline of the run. A stage whose object is missing returns a `Promised` manifest, so
that the walk continues to the first place that reads the object's files.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from core.completions.journal import Journal
from core.config.loading import ResolvedConfig
from core.data.writing import scan_examples
from core.errors import MissingInputError, UnderstudyError
from core.optional import Part, named
from core.pipeline import seeds, starting
from core.pipeline.context import RunContext
from core.pipeline.distill import distill
from core.pipeline.estimate import estimate
from core.pipeline.naming import other_config, refusal
from core.pipeline.preflight import missing_keys
from core.pipeline.reasons import Reasons
from core.pipeline.reinforce import reinforce, rows_by_split
from core.pipeline.rl_forecast import forecast
from core.pipeline.runners import Pending, Runner
from core.pipeline.switches import NAMES, Switches, switches
from core.prompts import Message
from core.stage import Action, StageCall
from core.store.manifest import Manifest
from core.store.objects import Store
from core.store.runs import ReadOnlyRun
from core.sweep.arms import Sweep
from core.teacher.forecast import forecast_lines

Promises = dict[tuple[str, str], str]
"""By stage and key, the arm of a sweep that would build the object."""


class NotBuiltYet(Exception):
    """A stage has to run before the walk can continue; holds its slot."""


class Promised(Manifest):
    """An object that a run would build. Reading anything of it raises NotBuiltYet."""

    @classmethod
    def of(cls, call: StageCall, cause: str) -> Promised:
        """`cause` is the slot of the first missing object that it depends on."""
        unread = _Unread(cause)
        return cls.model_construct(
            stage=call.name,
            key=cause,
            writer="",
            created_at="",
            files=unread,
            ingredients=unread,
            summary=unread,
        )

    @property
    def digest(self) -> str:
        """Unknown."""
        raise NotBuiltYet(self.key)

    @property
    def folder(self) -> str:
        """Unknown."""
        raise NotBuiltYet(self.key)


class _Unread(dict[str, Any]):
    """The files or the summary of a promised object."""

    def __init__(self, cause: str) -> None:
        super().__init__()
        self._cause = cause

    def _raise(self, *arguments: Any) -> NoReturn:
        raise NotBuiltYet(self._cause)

    __getitem__ = __iter__ = __len__ = __contains__ = get = items = keys = values = _raise


@dataclass(frozen=True, slots=True)
class _Planned:
    """A stage that was walked past."""

    manifest: Manifest

    def done(self) -> bool:
        """Whether its object exists."""
        return not isinstance(self.manifest, Promised)

    def result(self) -> Manifest:
        """The object, or its promise."""
        return self.manifest

    def release(self) -> None:
        """Nothing runs."""


class PlanRunner(Runner):
    """Notes for each stage whether a run would reuse it, or run it and why."""

    executes = False

    def __init__(
        self,
        resolved: ResolvedConfig,
        switches: Switches,
        arm: str = "",
        promises: Promises | None = None,
    ) -> None:
        """`promises` are the objects that earlier arms of a sweep would have built before this `arm`."""
        view = ReadOnlyRun(Store.at(resolved.config.run.root), resolved.run_name)
        super().__init__(resolved, switches, view, RunContext(resolved.config))
        self.lines: list[tuple[str, str]] = []
        """Slots, and what would become of each."""
        self._reasons, self._arm = Reasons(self.view), arm
        self._promises: Promises = {} if promises is None else promises

    def walk(self, pipeline: Callable[[Runner], Any]) -> None:
        """Fill `lines` as far as is known now; the rest waits for the first missing object."""
        try:
            pipeline(self)
        except NotBuiltYet as e:
            seen = {slot.partition("/")[0] for slot, _ in self.lines}
            waits = {name: f"waits for {e}" if name not in self.switches.off else "off" for name in NAMES}
            self.lines += [(name, what) for name, what in waits.items() if name not in seen]
        else:
            self.lines += [(name, "off") for name in NAMES[NAMES.index(self.switches.last) + 1 :]]

    def do(self, call: StageCall, *, refresh: bool = False) -> Manifest:
        """A line for a stage, and its object or a promise of it."""
        manifest = self.used[call.slot] = self._planned(call)
        if isinstance(manifest, Promised) and call.stage.switch == "export":
            raise NotBuiltYet(call.slot)  # the stages of the export follow from each other
        return manifest

    def submit(self, call: StageCall, *, overlap: bool) -> Pending:
        """Training does not wait for an evaluation."""
        return _Planned(self.do(call))

    def must_build(self, call: StageCall) -> bool:
        """Nothing is built."""
        return False

    @contextlib.contextmanager
    def optional(self, part: Part, detail: str = "") -> Iterator[None]:
        """A line for a part that a run would leave out."""
        try:
            yield
        except UnderstudyError as e:
            self.lines.append(("(left out)", f"{named(part, detail)}: {e}"))

    def leave_out(self, part: Part, error: Exception) -> None:
        """A line for a part that is impossible."""
        self.lines.append(("(left out)", f"{part}: {error}"))

    def perform(self, action: Action, *arguments: Any) -> Any:
        """Do nothing."""

    def note_read_of_test(self, split: Manifest, frozen: Sequence[Manifest], what: str) -> None:
        """Do nothing."""

    def known(self, slot: str) -> Manifest | None:
        """The object of a slot, if it exists."""
        found = self.used.get(slot)
        return None if isinstance(found, Promised) else found

    def stages(self) -> list[str]:
        """`lines` as text; steps that wait for the same object share a line."""
        groups: dict[tuple[str, str, int], list[str]] = {}
        for i, (slot, what) in enumerate(self.lines):
            stage, _, step = slot.partition("/")
            shares = what.startswith("waits for") and step.isdigit()
            groups.setdefault((stage, what, -1 if shares else i), []).append(slot)
        rows = [
            (slots[0] if len(slots) == 1 else f"{slots[0]} to {slots[-1]}", what)
            for (_, what, _), slots in groups.items()
        ]
        width = max(len(slots) for slots, _ in rows)
        return [f"{slots:<{width}}  {what}" for slots, what in rows]

    def _planned(self, call: StageCall) -> Manifest:
        if not self.switches.on(call.stage):
            return self._off(call)
        missing = next((m for m in call.inputs.values() if isinstance(m, Promised)), None)
        if missing is not None:
            self.lines.append((call.slot, f"waits for {missing.key}"))
            return Promised.of(call, missing.key)
        sound = self.store.sound(call.name, call.key)
        if sound is not None and call.name not in self.switches.refresh:
            self.lines.append((call.slot, f"reuse (built {sound.created_at})"))
            return sound
        self.lines.append((call.slot, self._why(call)))
        return Promised.of(call, call.slot)

    def _off(self, call: StageCall) -> Manifest:
        try:
            manifest = self.earlier(call.slot, f"result of {call.slot}")
        except MissingInputError as e:
            self.lines.append((call.slot, f"off, but {e}"))
            return Promised.of(call, call.slot)
        self.lines.append((call.slot, f"off: takes what was built {manifest.created_at}"))
        return manifest

    def _why(self, call: StageCall) -> str:
        builder = self._promises.setdefault((call.name, call.key), self._arm)
        if builder != self._arm:
            return f"reuse, once arm {builder} has built it"
        asked = call.name in self.switches.refresh
        return f"run: {'asked for by --refresh' if asked else self._reasons.why(call)}"


def describe_plan(resolved: ResolvedConfig, switches: Switches) -> str:
    """The plan of a run as text: each stage, then the cost and the first prompts."""
    plan = PlanRunner(resolved, switches)
    plan.walk(distill)
    for seed in seeds.others(resolved.config):
        name = seeds.name_of(resolved.run_name, seed)
        plan.lines.append((f"seed {seed}", f"{name}, another run: the same from train on"))
    head = [f"run {resolved.run_name} under {plan.store.backend.url}", "", *_needed_keys(plan.context)]
    if differing := other_config(plan.view, resolved):
        head += [f"`understudy run` would stop here: {refusal(plan.view, differing)}", ""]
    return "\n".join([*head, *plan.stages(), "", *_student_cost(plan), *_first_prompts(plan)])


def describe_sweep(sweep: Sweep) -> str:
    """The plan of each arm as text; what an earlier arm would have built by then is marked."""
    promises: Promises = {}
    lines = [f"sweep {sweep.name} on {sweep.base}: {len(sweep.arms)} arms under {sweep.root}"]
    for arm in sweep.arms:
        plan = PlanRunner(arm.resolved, switches(arm.resolved.config.stages), arm.name, promises)
        plan.walk(distill)
        lines += ["", f"arm {arm.name}, run {arm.run}: {' '.join(arm.sets) or 'as the base'}"]
        if differing := other_config(plan.view, arm.resolved):
            lines.append(f"  `understudy sweep` would stop here: {refusal(plan.view, differing)}")
        described = (*_needed_keys(plan.context), *plan.stages(), *_student_cost(plan))
        lines += [f"  {line}" for line in described if line]
    return "\n".join(lines)


def describe_reinforcement(resolved: ResolvedConfig, source: str | None) -> str:
    """The start, the steps and their price as text; if the data is not split, how to get further."""
    plan = PlanRunner(resolved, switches(resolved.config.stages))
    plan.walk(lambda run: reinforce(run, source))
    parts = plan.known("split")
    if parts is None:
        return "the data is not split yet: run `understudy run` first, or reinforce without --plan"
    start = starting.find(plan.view, resolved.config, plan.context, parts, source)
    head = f"run {plan.view.name} under {plan.store.backend.url}, from {start}"
    lines = forecast(resolved.config, plan.context, plan.store.folder(parts), rows_by_split(parts))
    return "\n".join([head, *_needed_keys(plan.context), *lines])


def _needed_keys(context: RunContext) -> list[str]:
    """Lines about missing keys that the run will need."""
    missing = [f"the run will need a key: {sentence}" for sentence in missing_keys(context)]
    return [*missing, ""] if missing else []


def _student_cost(plan: PlanRunner) -> list[str]:
    """The cost of a student on a server, including what exists already."""
    if not plan.context.capabilities.metered:
        return []
    parts = plan.known("split")
    if parts is None:
        return ["(the cost of the student is known once the data is split: --only split)"]
    return [*estimate(plan.context, plan.store, parts, plan.known("encode")).lines(), ""]


def _first_prompts(plan: PlanRunner) -> list[str]:
    """The cost of a live teacher, and the prompts of teacher and student for the first training text."""
    parts = plan.known("split")
    if parts is None:
        return ["(the first prompt can be shown once the data is split)"]
    lines: list[str] = []
    if plan.config.teacher.kind == "openai":
        with Journal.open(plan.store, plan.view.name, heals=False) as journal:
            lines += [*forecast_lines(plan.config, plan.store, parts, journal), ""]
    example = next(iter(scan_examples(plan.store.file(parts, "train.csv"))))
    context = plan.context
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
