"""The runner of plans: notes what a run would do, without executing a stage or writing a file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from core.config import ResolvedConfig
from core.errors import MissingInputError, Part, UnderstudyError, named
from core.pipeline.runners import Runner
from core.pipeline.switches import NAMES, Switches
from core.stage import StageCall
from core.store import Manifest, ReadOnlyRun, Store

Promises = dict[tuple[str, str], str]
"""By stage and key, the arm of a sweep that would build the object."""


class NotBuiltYet(Exception):
    """A stage has to run before the plan can continue; has its slot."""


class Promised(Manifest):
    """An object that a run would build; its key is the slot of the first missing object it depends on.

    Its files, digest, ingredients and summary raise NotBuiltYet.
    """

    @classmethod
    def of(cls, call: StageCall, cause: str) -> Promised:
        known: dict[str, Any] = {"stage": call.name, "key": cause}
        return cls.model_construct(**known)

    @property
    def folder(self) -> str:
        raise NotBuiltYet(self.key)

    def __getattr__(self, name: str) -> Any:
        """Called for the fields that are not set."""
        raise NotBuiltYet(self.key)


class PlanRunner(Runner):
    """Notes for each stage whether a run would reuse it, or run it and why.

    A stage whose object is missing returns a `Promised` manifest, so that the walk continues to the first
    place that reads the object's files.
    """

    executes = False

    def __init__(
        self, resolved: ResolvedConfig, switches: Switches, arm: str = "", promises: Promises | None = None
    ) -> None:
        """`promises` are the objects that earlier arms of a sweep would have built before this `arm`."""
        store = Store.at(resolved.config.run.root)
        super().__init__(resolved, switches, ReadOnlyRun(store, resolved.run_name))
        self.lines: list[tuple[str, str]] = []
        """Slots, and what would become of each."""
        self._arm, self._promises = arm, {} if promises is None else promises

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
        manifest, line = self._planned(call)
        self.used[call.slot] = manifest
        self.lines.append((call.slot, line))
        if isinstance(manifest, Promised) and call.stage.switch == "export":
            raise NotBuiltYet(call.slot)  # the stages of the export follow from each other
        return manifest

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

    def perform(self, action: Callable[..., Any], *arguments: Any) -> Any:
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

    def _planned(self, call: StageCall) -> tuple[Manifest, str]:
        """The object of a call or a promise of it, and what a run would do."""
        if not self.switches.on(call.stage):
            try:
                manifest = self.earlier(call.slot, f"result of {call.slot}")
            except MissingInputError as e:
                return Promised.of(call, call.slot), f"off, but {e}"
            return manifest, f"off: takes what was built {manifest.created_at}"
        missing = next((m for m in call.inputs.values() if isinstance(m, Promised)), None)
        if missing is not None:
            return Promised.of(call, missing.key), f"waits for {missing.key}"
        refresh = call.name in self.switches.refresh
        sound = None if refresh else self.store.sound(call.name, call.key)
        if sound is not None:
            return sound, f"reuse (built {sound.created_at})"
        builder = self._promises.setdefault((call.name, call.key), self._arm)
        if builder != self._arm:
            return Promised.of(call, call.slot), f"reuse, once arm {builder} has built it"
        reason = "asked for by --refresh" if refresh else self._reasons.why(call)
        return Promised.of(call, call.slot), f"run: {reason}"
