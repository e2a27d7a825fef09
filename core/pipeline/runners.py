"""Runners execute a pipeline: in this process, as Prefect tasks (flows.runtime), or as a plan.

The switches decide which stages run. For each stage that has to run, the changes since it was last built are
the reason.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from core.completions import Journal
from core.config import ResolvedConfig, StagesConfig
from core.errors import Failures, MissingInputError, Part, PartFailed, StoreError, UserError
from core.jsonio import now
from core.pipeline.run_context import Phase, RunContext
from core.progress import LogProgress, Progress
from core.stage import Settings, Stage, StageCall, build, changed
from core.store import Manifest, RunView, StageRecord
from core.store.run_view import FOLDER, RECORD, note_test_read
from core.tracking.trackers import Trackers

log = logging.getLogger(__name__)
_Content = TypeVar("_Content")
At = Mapping[str, str | int | Phase]
"""Values of the placeholders in a stage's slot, label and places."""
_FROM_TEACHER_RUN = ("split", "sample", "reject")
"""Stages whose results `teacher_from` takes from another run."""
SWITCHES: tuple[str, ...] = tuple(StagesConfig.model_fields)
"""The switches in the order of the pipeline. A stage declares which of them it belongs to."""
CHANGES_SHOWN = 5
"""Ingredients that changed, at most."""
LOOKED_AT = 100
"""Other runs whose records are read, at most: under an S3 root each is a request."""


@dataclass(frozen=True, slots=True)
class PendingStage:
    """The object of a stage, which may still be built in another thread."""

    result: Callable[[], Manifest]
    """Waits for the object. Raises the error of its stage."""
    done: Callable[[], bool] = lambda: True
    """Whether the object can be read now."""
    release: Callable[[], object] = lambda: None
    """Waits for the end of a stage whose result is not needed."""


class Runner:
    """Executes the stages of a pipeline in this process and thread, without Prefect."""

    executes = True
    """Whether stages are executed; a plan only describes them."""
    never_optional: tuple[type[Exception], ...] = ()
    """Exceptions that end a run wherever they are raised, such as a cancellation."""

    def __init__(
        self,
        resolved: ResolvedConfig,
        switches: Switches,
        view: RunView,
        trackers: Trackers | None = None,
        failures: Failures | None = None,
        before: str | None = None,
    ) -> None:
        """`before` is the run that had this name until the name was given to this one."""
        self.resolved, self.config, self.switches = resolved, resolved.config, switches
        self.store, self.view = view.store, view
        self.context = RunContext(resolved.config, lambda: Journal.open(view.store, view.name))
        self.trackers = trackers or Trackers()
        self.failures = failures if failures is not None else Failures(self.never_optional)
        self.used: dict[str, Manifest] = {}
        """The objects of this run by slot."""
        self._taken: dict[str, str] = {}
        self._reasons = Reasons(view, before)

    def call(
        self,
        stage: Stage[Settings],
        settings: Settings,
        at: At | None = None,
        given: object = None,
        /,
        **inputs: Manifest | None,
    ) -> StageCall:
        """A call of a stage in this run, as Stage.call describes."""
        return stage.call(settings, self.context, at, given, **inputs)

    def stage(
        self, stage: Stage[Settings], settings: Settings, at: At | None = None, /, **inputs: Manifest | None
    ) -> Manifest:
        """The object of a stage, whose files are then in the run's folder as the stage declares."""
        return self.do(self.call(stage, settings, at, **inputs))

    def do(self, call: StageCall, *, refresh: bool = False) -> Manifest:
        """The object of a call: built, reused, or, if the stage is off, taken from the run's record.

        With `refresh` it is built again. Optional parts of the stage that fail are recorded and left out.
        """
        left_out: tuple[Part, ...] = ()
        while True:
            try:
                return self._publish(call, self._object(call, refresh=refresh))
            except PartFailed as e:
                if "without" not in call.stage.settings.model_fields or e.part in left_out:
                    raise
                self.failures.note(e.part, e)
                left_out = (*left_out, e.part)
                call = call.without(left_out)

    def submit(self, call: StageCall, *, overlap: bool) -> PendingStage:
        """As `do`; with `overlap` the runner may build the object while the pipeline continues."""
        manifest = self.do(call)
        return PendingStage(lambda: manifest, lambda: self.exists(manifest))

    def must_build(self, call: StageCall) -> bool:
        """Whether the stage is on and its object is missing, or has to be built again."""
        if not self.switches.on(call.stage):
            return False
        return self._asked_for(call) or self.store.sound(call.name, call.key) is None

    def exists(self, manifest: Manifest) -> bool:
        """Whether an object is there to be read; False for what a plan promises."""
        return True

    def read(self, manifest: Manifest, file: str, reader: Callable[[Path], _Content]) -> _Content:
        """What a reader returns of an object's file; an estimate assumes it for objects not built yet."""
        return reader(self.store.file(manifest, file))

    def earlier(self, slot: str, file: str) -> Manifest:
        """The earlier object of a stage that is off. Raises MissingInputError naming the run and the file."""
        return self._source(slot).earlier(slot, file=file)

    def optional(self, part: Part, detail: str = "") -> AbstractContextManager[None]:
        """Record what fails inside, and continue without it."""
        return self.failures.optional(part, detail)

    def perform(self, action: Callable[..., Any], *arguments: Any) -> Any:
        """Call an action, such as writing the report; a plan does not."""
        return action(*arguments)

    def show(self, phase: Phase) -> None:
        """Show the results of a phase to people; parts that cannot be shown are added to the failures."""

    def note_read_of_test(self, split: Manifest, frozen: Sequence[Manifest], what: str) -> None:
        """Record that test is about to be read for what `frozen` consists of."""
        note_test_read(self.store, split, frozen, self.view.name, what)

    def progress(self, label: str) -> Progress:
        """Where a stage reports its progress."""
        return LogProgress(label)

    def execute(self, call: StageCall, *, refresh: bool, cached: bool) -> bool:
        """Build the object and return whether it existed; with `cached` it was verified already."""
        return cached or build(self.store, call, self.progress(call.label), refresh=refresh).reused

    def close(self) -> None:
        """End the live training session and that on a server."""
        self.context.close()

    def _source(self, slot: str) -> RunView:
        """The run from which the earlier object of a stage is taken: this one, or that of teacher_from."""
        teacher = self.config.teacher_from
        if teacher is None or slot.partition("/")[0] not in _FROM_TEACHER_RUN:
            return self.view
        source = RunView(self.store, teacher)
        if not source.files():
            raise MissingInputError(f"teacher_from: run {teacher} does not exist at {source.where()}")
        return source

    def _object(self, call: StageCall, *, refresh: bool) -> Manifest:
        if not self.switches.on(call.stage):
            source, manifest = self._source(call.slot), self.earlier(call.slot, call.shows)
            if source is not self.view:
                self.view.record(call.slot, manifest, reused=True)
                self._taken[call.slot] = manifest.path
                copied = {"run": source.name, "copied_at": now(), "objects": self._taken}
                self.view.write_json("teacher_source.json", copied)
            return manifest
        refresh = refresh or self._asked_for(call)
        sound = None if refresh else self.store.sound(call.name, call.key)
        self._log_reason(call, sound, refresh=refresh)
        reused = self.execute(call, refresh=refresh, cached=sound is not None)
        return self._recorded(call, sound, reused=reused)

    def _recorded(self, call: StageCall, sound: Manifest | None = None, *, reused: bool) -> Manifest:
        """Record the object that was verified before, or else the one that was built."""
        manifest = sound or self.store.find(call.name, call.key)
        assert manifest is not None, f"stage {call.label} ended without a manifest"
        self.view.record(call.slot, manifest, reused=reused)
        return manifest

    def _publish(self, call: StageCall, manifest: Manifest) -> Manifest:
        """Fill the run's folder, whether the object was built or reused."""
        self.used[call.slot] = manifest
        files: dict[str, str] = {}
        for name, place in call.places.items():
            if name.endswith("/"):
                self.view.clear(place.rstrip("/"))
                files |= {f: place + f.removeprefix(name) for f in manifest.files if f.startswith(name)}
            else:
                files[name] = place
        if files:
            self.view.fill(manifest, files)
        return manifest

    def _asked_for(self, call: StageCall) -> bool:
        return call.name in self.switches.refresh and call.slot not in self.used

    def _log_reason(self, call: StageCall, sound: Manifest | None, *, refresh: bool) -> None:
        if sound is not None:
            reason = f"reuse (built {sound.created_at})"
        else:
            reason = f"run: {'asked for by --refresh' if refresh else self._reasons.own(call)}"
        log.info("%s: %s", call.label, reason)


@dataclass(frozen=True, slots=True)
class Switches:
    """Switches that are off, and stages that are built again although their object is intact."""

    off: frozenset[str] = frozenset()
    refresh: frozenset[str] = frozenset()

    def on(self, stage: Stage[Any]) -> bool:
        return stage.switch not in self.off

    @property
    def last(self) -> str:
        """The last switch that is on. Stages before it run or are read; those after it are ignored."""
        return [name for name in SWITCHES if name not in self.off][-1]


def switches(
    config: StagesConfig, only: Iterable[str] = (), skip: Iterable[str] = (), refresh: Iterable[str] = ()
) -> Switches:
    """Combine config and command line. Raises UserError for a stage that does not exist."""
    only, skip, refresh = set(only), set(skip), set(refresh)
    for option, names in (("only", only), ("skip", skip), ("refresh", refresh)):
        for name in sorted(names.difference(SWITCHES)):
            near = difflib.get_close_matches(name, SWITCHES, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(SWITCHES)}"
            raise UserError(f"--{option} {name}: unknown stage; {hint}")
    off = set(SWITCHES) - only if only else {name for name in SWITCHES if not getattr(config, name)}
    off |= skip
    if off == set(SWITCHES):
        raise UserError(
            "no stage is left to run: --only, --skip and the config's stages: switch all of them off"
        )
    if both := off & refresh:
        raise UserError(
            f"--refresh {sorted(both)[0]}: this stage is switched off; switch it on to build it again"
        )
    return Switches(frozenset(off), frozenset(refresh))


class Reasons:
    """Why the stages of one run have to run. Other runs are listed once, and each record is read once."""

    def __init__(self, view: RunView, before: str | None = None) -> None:
        """`before` is the earlier run of this name, if --new set it aside."""
        self._view, self._store = view, view.store
        self._own = (view.name,) if before is None else (view.name, before)
        self._records: dict[str, Mapping[str, StageRecord]] = {}

    def own(self, call: StageCall) -> str:
        """The changes since this run, or the earlier run of its name, built the stage; else "not cached"."""
        for _, earlier in self._earlier(call, self._own):
            return _differences(call, earlier)
        return "not cached"

    def why(self, call: StageCall) -> str:
        """The same for a plan, which also compares with the run that worked last."""
        for _, earlier in self._earlier(call, self._own):
            return _differences(call, earlier)
        for name, earlier in self._earlier(call, self._others):
            return _differences(call, earlier, f"run {name}")
        if call.slot != call.name:  # the newest object may be of another step
            return "not made before"
        folder = f"objects/{call.name}"
        manifests = [f for f in self._store.backend.list(folder) if f.path.count("/") == 2]
        manifests.sort(key=lambda f: f.modified, reverse=True)
        keys = (f.path.removeprefix(f"{folder}/").removesuffix(".json") for f in manifests)
        newest = next(filter(None, (self._store.find(call.name, key) for key in keys)), None)
        if newest is None:
            return "not made before"
        return _differences(call, newest, f"what was made {newest.created_at}")

    def _earlier(self, call: StageCall, runs: Iterable[str]) -> Iterator[tuple[str, Manifest]]:
        """The objects that the records of these runs name for the stage, with the name of the run."""
        for name in runs:
            if name == self._view.name:
                records: Mapping[str, StageRecord] = self._view.stages()
            elif name in self._records:
                records = self._records[name]
            else:
                try:
                    records = RunView(self._store, name).stages()
                except StoreError as e:  # another run's record must not stop this one
                    log.warning("%s", e)
                    records = {}
                self._records[name] = records
            entry = records.get(call.slot)
            if entry is not None and (found := self._store.find(call.name, entry.key)) is not None:
                yield name, found

    @cached_property
    def _others(self) -> list[str]:
        """The other runs, the one that worked last first."""
        start, end = f"{FOLDER}/", f"/{RECORD}"
        files = sorted(self._store.backend.list(FOLDER), key=lambda f: (f.modified, f.path), reverse=True)
        records = [f.path for f in files if f.path.endswith(end) and f.path.count("/") == 2]
        names = [path.removeprefix(start).removesuffix(end) for path in records]
        return [name for name in names if name != self._view.name][:LOOKED_AT]


def _differences(call: StageCall, earlier: Manifest, whose: str = "") -> str:
    differences = changed(call, earlier.ingredients)
    if not differences:
        return "its files are missing or damaged"
    return "; ".join(differences[:CHANGES_SHOWN]) + (f" (compared with {whose})" if whose else "")
