"""The runner of plans: notes what a run would do, without executing a stage or writing a file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from core.config.loading import ResolvedConfig
from core.errors import MissingInputError, UnderstudyError
from core.optional import Part, named
from core.pipeline.context import RunContext
from core.pipeline.reasons import Reasons
from core.pipeline.runners import Done, Pending, Runner
from core.pipeline.switches import NAMES, Switches
from core.stage import Action, StageCall
from core.store.manifest import Manifest
from core.store.objects import Store
from core.store.runs import ReadOnlyRun

Promises = dict[tuple[str, str], str]
"""By stage and key, the arm of a sweep that would build the object."""


class NotBuiltYet(Exception):
    """A stage has to run before the walk can continue; holds its slot."""


class Promised(Manifest):
    """An object that a run would build. Reading anything of it raises NotBuiltYet."""

    @classmethod
    def of(cls, call: StageCall, cause: str) -> Promised:
        """`cause` is the slot of the first missing object that it depends on."""
        unread: dict[str, Any] = dict.fromkeys(("files", "ingredients", "summary"), _Unread(cause))
        return cls.model_construct(stage=call.name, key=cause, writer="", created_at="", **unread)

    @property
    def digest(self) -> str:
        raise NotBuiltYet(self.key)

    @property
    def folder(self) -> str:
        raise NotBuiltYet(self.key)


class _Unread(dict[str, Any]):
    """The files or the summary of a promised object."""

    def __init__(self, cause: str) -> None:
        super().__init__()
        self._cause = cause

    def _raise(self, *arguments: Any) -> NoReturn:
        raise NotBuiltYet(self._cause)

    __getitem__ = __iter__ = __len__ = __contains__ = get = items = keys = values = _raise


class PlanRunner(Runner):
    """Notes for each stage whether a run would reuse it, or run it and why.

    A stage whose object is missing returns a `Promised` manifest, so that the walk continues to the first
    place that reads the object's files.
    """

    executes = False

    def __init__(
        self,
        resolved: ResolvedConfig,
        switches: Switches,
        arm: str = "",
        promises: Promises | None = None,
        context: RunContext | None = None,
    ) -> None:
        """`promises` are the objects that earlier arms of a sweep would have built before this `arm`."""
        view = ReadOnlyRun(Store.at(resolved.config.run.root), resolved.run_name)
        super().__init__(resolved, switches, view, context or RunContext(resolved.config))
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
        """Add a line for a stage; returns its object or a promise of it."""
        manifest = self.used[call.slot] = self._planned(call)
        if isinstance(manifest, Promised) and call.stage.switch == "export":
            raise NotBuiltYet(call.slot)  # the stages of the export follow from each other
        return manifest

    def submit(self, call: StageCall, *, overlap: bool) -> Pending:
        manifest = self.do(call)
        return Done(manifest, ready=self.exists(manifest))

    def exists(self, manifest: Manifest) -> bool:
        return not isinstance(manifest, Promised)

    def must_build(self, call: StageCall) -> bool:
        return False

    @contextlib.contextmanager
    def optional(self, part: Part, detail: str = "") -> Iterator[None]:
        try:
            yield
        except UnderstudyError as e:
            self.lines.append(("(left out)", f"{named(part, detail)}: {e}"))

    def perform(self, action: Action, *arguments: Any) -> Any:
        pass

    def note_read_of_test(self, split: Manifest, frozen: Sequence[Manifest], what: str) -> None:
        pass

    def known(self, slot: str) -> Manifest | None:
        """The object of a slot, if it exists."""
        found = self.used.get(slot)
        return found if found is not None and self.exists(found) else None

    def stages(self) -> list[str]:
        """`lines` as text; steps that wait for the same object share a line."""
        groups: dict[tuple[str, str, int], list[str]] = {}
        for i, (slot, what) in enumerate(self.lines):
            stage, _, step = slot.partition("/")
            shares = what.startswith("waits for") and step.isdigit()
            groups.setdefault((stage, what, -1 if shares else i), []).append(slot)
        labels = [slots[0] if len(slots) == 1 else f"{slots[0]} to {slots[-1]}" for slots in groups.values()]
        width = max(map(len, labels))
        return [f"{label:<{width}}  {what}" for label, (_, what, _) in zip(labels, groups, strict=True)]

    def _planned(self, call: StageCall) -> Manifest:
        """Add the line of a stage that is on or off; returns its object or a promise of it."""
        if not self.switches.on(call.stage):
            try:
                manifest = self.earlier(call.slot, f"result of {call.slot}")
            except MissingInputError as e:
                self.lines.append((call.slot, f"off, but {e}"))
                return Promised.of(call, call.slot)
            self.lines.append((call.slot, f"off: takes what was built {manifest.created_at}"))
            return manifest
        missing = next((m for m in call.inputs.values() if isinstance(m, Promised)), None)
        if missing is not None:
            self.lines.append((call.slot, f"waits for {missing.key}"))
            return Promised.of(call, missing.key)
        refresh = call.name in self.switches.refresh
        sound = None if refresh else self.store.sound(call.name, call.key)
        if sound is not None:
            self.lines.append((call.slot, f"reuse (built {sound.created_at})"))
            return sound
        builder = self._promises.setdefault((call.name, call.key), self._arm)
        if builder != self._arm:
            what = f"reuse, once arm {builder} has built it"
        else:
            what = f"run: {'asked for by --refresh' if refresh else self._reasons.why(call)}"
        self.lines.append((call.slot, what))
        return Promised.of(call, call.slot)
