"""One run in progress: calls stages as tasks, verifies before it believes, fills the run's folder."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from prefect import Task
from prefect.exceptions import CancelledRun, CrashedRun

from core.completions.journal import Journal
from core.config.loading import ResolvedConfig
from core.errors import MissingInputError, UnderstudyError, UserError
from core.optional import Failures, Part, PartFailed
from core.pipeline.naming import claim
from core.pipeline.reasons import Reasons
from core.pipeline.stages import Pipeline
from core.provenance import record_code
from core.stages import Stage
from core.store import reads
from core.store.clock import now
from core.store.manifest import Manifest
from core.store.objects import Store
from core.store.runs import RunView
from core.tracking.trackers import Trackers, tracked
from flows.logs import run_log
from flows.submitting import Submitted
from flows.switches import Switches
from tasks.by_stage import TASKS
from tasks.policy import StageCall
from tasks.progress import ArtifactProgress
from tasks.storage import result_storage

log = logging.getLogger(__name__)

CANCELLED = (CancelledRun, CrashedRun)
"""How Prefect ends a run from outside: never the failure of an optional part."""
_FROM_TEACHER_RUN = ("split", "sample", "reject")


class Execution:
    """The store, the view, the switches and the pipeline of one run."""

    def __init__(
        self,
        resolved: ResolvedConfig,
        switches: Switches,
        view: RunView,
        trackers: Trackers | None = None,
        failures: Failures | None = None,
        before: str | None = None,
    ) -> None:
        """`before` is the run that the name stood for until it was begun anew."""
        self.resolved, self.config, self.switches = resolved, resolved.config, switches
        self.store, self.view = view.store, view
        self.trackers = trackers or Trackers()
        self.pipeline = Pipeline(self.config, lambda: Journal.open(view.store, view.name))
        self.failures = failures if failures is not None else Failures(CANCELLED)
        self.used: dict[str, Manifest] = {}
        self._taken: dict[str, str] = {}
        self._reasons = Reasons(view, before)

    def do(self, slot: str, stage: Callable[[], Stage], file: str, *, refresh: bool = False) -> Manifest:
        """The manifest of one stage: made, reused, or, where the stage is off, taken from a record.

        `slot` is the stage's place in the run's record, `file` the file a reader would look for;
        `refresh` makes it again though it is whole.
        """
        name = slot.partition("/")[0]
        if not self.switches.on(name):
            manifest = self._earlier(slot, name, file)
        else:
            manifest = self._call(stage(), refresh=refresh)
        self.used[slot] = manifest
        return manifest

    def do_built(self, stage: Stage, file: str, *, refresh: bool = False) -> Manifest:
        """As `do`, for a stage that is built already."""
        return self.do(stage.slot, lambda: stage, file, refresh=refresh)

    def do_without(self, build: Callable[[tuple[Part, ...]], Stage], file: str) -> Manifest:
        """As `do_built`, for a stage that has optional parts; each that fails is recorded and left out."""
        without: tuple[Part, ...] = ()
        while True:
            try:
                return self.do_built(build(without), file)
            except PartFailed as e:
                if e.part in without:
                    raise
                self.failures.note(e.part, e)
                without = (*without, e.part)

    def optional(self, part: Part, detail: str = "") -> AbstractContextManager[None]:
        """What fails inside is recorded, and the run continues without it."""
        return self.failures.optional(part, detail)

    def leave_out(self, part: Part, error: Exception) -> None:
        """Record a part that is known to be impossible."""
        self.failures.note(part, error)

    def reads_test(self, parts: Manifest, frozen: Sequence[Manifest], what: str) -> None:
        """Note that test is about to be read, for what consists of `frozen`; once, however often."""
        reads.note(self.store, parts, frozen, self.view.name, what)

    def must_make(self, stage: Stage) -> bool:
        """Whether a stage is on and has no whole object, or is to be made again."""
        if not self.switches.on(stage.slot.partition("/")[0]):
            return False
        return self._asked_for(stage) or self.store.sound(stage.name, stage.key) is None

    def submit(self, stage: Stage) -> Submitted:
        """Begin to make a stage that must be made, beside what follows."""
        refresh = self._asked_for(stage)
        log.info("%s: %s", stage.label, self._why(stage, None, refresh=refresh))
        call = self._stage_call(stage, refresh=refresh)
        future = self._task(stage, cached=False).submit(call)

        def finish() -> Manifest:
            manifest = self._made(stage, reused=call.reused)
            self.used[stage.slot] = manifest
            return manifest

        return Submitted(future, finish)

    def folder(self, manifest: Manifest) -> Path:
        """The files of an object."""
        return self.store.folder(manifest)

    def perform(self, task: Task[..., Any], *arguments: Any) -> Any:
        """Call a task that keeps no result."""
        return task(*arguments)

    def perform_stage(self, stage: Stage, *, refresh: bool, cached: bool) -> bool:
        """Call the stage's task; says whether it found the object made.

        Unless `cached`, Prefect's record is not asked: it may name what is no longer there.
        """
        call = self._stage_call(stage, refresh=refresh)
        task: Any = self._task(stage, cached=cached)
        task(call)
        return cached or call.reused

    def _stage_call(self, stage: Stage, *, refresh: bool) -> StageCall:
        return StageCall(self.store, stage, lambda: ArtifactProgress(stage.label), refresh=refresh)

    def _task(self, stage: Stage, *, cached: bool) -> Task[..., Any]:
        options: dict[str, Any] = {
            "task_run_name": stage.label.replace("{", "(").replace("}", ")"),
            "result_storage": result_storage(self.store),
            "result_serializer": "json",
            "refresh_cache": not cached,
        }
        return TASKS[stage.name].with_options(**options)

    def require(self, slot: str, file: str) -> Manifest:
        """The earlier result of a stage that is off. Raises MissingInputError naming the run and the file."""
        return self._source(slot.partition("/")[0]).earlier(slot, file=file)

    def _source(self, name: str) -> RunView:
        """The run whose earlier result of a stage is taken: this one, or that of teacher_from."""
        teacher = self.config.teacher_from
        if teacher is None or name not in _FROM_TEACHER_RUN:
            return self.view
        source = RunView(self.store, teacher)
        if not source.exists():
            raise MissingInputError(f"teacher_from: there is no run {teacher} at {source.where()}")
        return source

    def _earlier(self, slot: str, name: str, file: str) -> Manifest:
        source = self._source(name)
        manifest = source.earlier(slot, file=file)
        if source is self.view:
            return manifest
        self.view.record(slot, manifest, reused=True)
        self._taken[slot] = manifest.path
        self.view.write_json(
            "teacher_source.json", {"run": source.name, "copied_at": now(), "objects": self._taken}
        )
        return manifest

    def _asked_for(self, stage: Stage) -> bool:
        return stage.name in self.switches.refresh and stage.slot not in self.used

    def _call(self, stage: Stage, *, refresh: bool) -> Manifest:
        refresh = refresh or self._asked_for(stage)
        sound = None if refresh else self.store.sound(stage.name, stage.key)
        log.info("%s: %s", stage.label, self._why(stage, sound, refresh=refresh))
        reused = self.perform_stage(stage, refresh=refresh, cached=sound is not None)
        return self._made(stage, sound, reused=reused)

    def _made(self, stage: Stage, sound: Manifest | None = None, *, reused: bool) -> Manifest:
        """A stage's object, recorded: the one that was found `sound`, else the one just made."""
        manifest = sound or self.store.find(stage.name, stage.key)
        assert manifest is not None, f"stage {stage.label} ended without a manifest"
        self.view.record(stage.slot, manifest, reused=reused)
        return manifest

    def _why(self, stage: Stage, sound: Manifest | None, *, refresh: bool) -> str:
        if sound is not None:
            return f"reuse (made {sound.created_at})"
        return "run: asked for by --refresh" if refresh else "run: " + self._reasons.own(stage)


@contextlib.contextmanager
def execution(
    resolved: ResolvedConfig,
    switches: Switches,
    *,
    new: bool = False,
    kind: type[Execution] = Execution,
) -> Iterator[Execution]:
    """A run under its name: nobody else works under it meanwhile, and how it ends is written down."""
    view = RunView(Store.open(resolved.config.run.root), resolved.run_name)
    with view.store.lease(f"runs/{view.name}", f"run {view.name}"):
        before = claim(view, resolved, new=new)
        record_code(view)
        failures = Failures(CANCELLED)
        with (
            run_log(view, resolved.config.run.log_level),
            _noted(view),
            tracked(resolved.config, view, failures) as trackers,
            closing(kind(resolved, switches, view, trackers, failures, before)) as run,
        ):
            yield run


@contextlib.contextmanager
def closing(run: Execution) -> Iterator[Execution]:
    """End the live training session, and that on a server, whatever happens."""
    try:
        yield run
    finally:
        run.pipeline.close()


@contextlib.contextmanager
def _noted(view: RunView) -> Iterator[None]:
    view.note_state("running")
    try:
        yield
    except Exception as e:
        with contextlib.suppress(UnderstudyError):  # what ended the run matters more
            view.note_state("failed", error=str(e), mistake=isinstance(e, UserError))
        raise
    except BaseException:  # Ctrl-C, SIGTERM, or Prefect's cancellation
        with contextlib.suppress(UnderstudyError):
            view.note_state("stopped")
        raise
    view.note_state("finished")
