"""Declared stages. A stage is a function `(settings, io) -> summary` with a declaration next to it:

    @stage("reject", version=5, inputs=("split", "sample"), publishes={"a.jsonl": "teacher_phase/a.jsonl"})
    def reject(settings: RejectSettings, io: StageIO) -> dict[str, Any]: ...

Cache key, files in the run's folder, Prefect task, plan entry, switch and timing are derived from it.
The key hashes all settings, the digests of the files they name, the digests of the inputs, and the version;
so a forgotten field can cost a re-run, never a stale result.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Generic, TypeVar

from core import jsonio
from core.config import ConfigSection, key_fields
from core.errors import PassingError, StoreError, UnderstudyError
from core.jsonio import Record
from core.progress import Progress, Silent
from core.store import Manifest, Store

if TYPE_CHECKING:
    from core.pipeline.run_context import RunContext

Settings = TypeVar("Settings", bound=ConfigSection)
_Function = TypeVar("_Function", bound=Callable[..., Any])
Summary = dict[str, Any] | Record
"""Counts and notices of an object; its manifest contains them as JSON."""
Template = str | Callable[[Any], str]
"""A text with placeholders, or a function of the settings that returns one."""


@dataclass(frozen=True, slots=True)
class StageIO:
    """What a stage function reads from and writes to: a local folder by input, and the folder `out`, whose
    files become the stage's immutable object. It needs neither Prefect nor a store."""

    inputs: Mapping[str, Path]
    out: Path
    progress: Progress = field(default_factory=Silent)
    key: str = ""
    """The key of the object, for names on servers."""
    run: RunContext | None = None

    def input(self, name: str) -> Path:
        """The folder of an input that every call has."""
        return self.inputs[name]

    def optional(self, name: str) -> Path | None:
        """The folder of an input; None if the call does not have it."""
        return self.inputs.get(name)

    @property
    def context(self) -> RunContext:
        """The engine, prompts, rulebook and tokenizer of the run, each opened on first use."""
        if self.run is None:
            raise ValueError("this stage needs the context of a run: StageIO(..., run=RunContext(config))")
        return self.run


@dataclass(frozen=True, slots=True)
class Stage(Generic[Settings]):
    """The declaration of a stage; calling it calls its function."""

    name: str
    version: int
    function: Callable[..., Summary]
    settings: type[Settings]
    inputs: tuple[str, ...] = ()
    """Names of inputs; "?" ends one that may be absent, and "*" allows any other name."""
    content: Callable[..., Mapping[str, str]] | None = None
    """Digests of everything besides settings and inputs that decides the output; None if nothing does."""
    publishes: Mapping[str, str] | Callable[[Settings], Mapping[str, str]] = field(default_factory=dict)
    """Places in the run's folder by file of the object; a name that ends in a slash is a folder, whose
    copy replaces what was there."""
    shows: str = ""
    """The file of the run's folder that a reader looks for first."""
    switch: str | None = None
    """The name in `stages:`, --only and --skip that switches it; None for always on."""
    slot: Template = ""
    """Its place in the run's record, where a run calls it several times."""
    label: Template = ""
    """Its name in logs and on Prefect's pages."""
    before: Callable[[RunContext], None] | None = None
    """A check made only if the object has to be built."""
    after: Callable[[RunContext], None] | None = None
    """Called once the manifest of a new object is written."""

    def __call__(self, settings: Settings, io: StageIO, *given: object) -> dict[str, Any]:
        """Call the function; returns its summary as JSON."""
        found = self.function(settings, io, *given)
        return found.to_json() if isinstance(found, Record) else found

    def call(
        self,
        settings: Settings,
        context: RunContext | None = None,
        at: Mapping[str, Any] | None = None,
        given: object = None,
        /,
        **inputs: Manifest | None,
    ) -> StageCall:
        """One call of the stage. An input that is None is absent; `at` fills the templates, and `given` is
        a third argument of the function, which its content covers and its settings do not."""
        present = {name: manifest for name, manifest in inputs.items() if manifest is not None}
        missing = {n for n in self.inputs if n[-1] not in "?*"} - set(present)
        unknown = set() if "*" in self.inputs else set(present) - {n.rstrip("?") for n in self.inputs}
        if missing or unknown:
            raise ValueError(f"stage {self.name} has the inputs {self.inputs} and got {sorted(present)}")
        return StageCall(self, settings, present, context, at or {}, given)

    def shown(self, settings: Settings | None = None, **at: Any) -> str:
        """The file of the run's folder in which a reader sees the output of such a call."""
        return StageCall(self, settings, {}, at=at).shows


STAGES: dict[str, Stage[Any]] = {}
"""All declared stages by name, in the order of their declaration."""


def stage(
    name: str,
    *,
    version: int,
    inputs: tuple[str, ...] = (),
    content: Callable[..., Mapping[str, str]] | None = None,
    publishes: Mapping[str, str] | Callable[[Any], Mapping[str, str]] | None = None,
    shows: str = "",
    switch: str | None = "",
    slot: Template = "",
    label: Template = "",
    before: Callable[[RunContext], None] | None = None,
    after: Callable[[RunContext], None] | None = None,
) -> Callable[[Callable[Concatenate[Settings, StageIO, ...], Summary]], Stage[Settings]]:
    """Declare the decorated function as a stage; see Stage for the fields.

    Slot, label and published places are templates that are filled with the settings, as {settings.split},
    and with what a call gives in `at`, as {phase.folder} or {step}.
    """

    switch = name if switch == "" else switch
    fields = (inputs, content, publishes or {}, shows, switch, slot, label, before, after)

    def declare(function: Callable[Concatenate[Settings, StageIO, ...], Summary]) -> Stage[Settings]:
        settings = next(iter(inspect.signature(function).parameters.values())).annotation
        if isinstance(settings, str):
            settings = vars(inspect.getmodule(function))[settings]
        if not (isinstance(settings, type) and issubclass(settings, ConfigSection)):
            raise TypeError(f"{function.__qualname__}: the first parameter is annotated with its settings")
        found: Stage[Any] = Stage(name, version, function, settings, *fields)
        _register(STAGES, name, found)
        return found

    return declare


ACTIONS: dict[str, Callable[..., Any]] = {}
"""Steps of pipelines that leave no object and are never cached, such as writing the report, by name."""


def action(name: str) -> Callable[[_Function], _Function]:
    """Declare the decorated function as an action."""

    def declare(function: _Function) -> _Function:
        _register(ACTIONS, name, function)
        return function

    return declare


def _register(declared: dict[str, Any], name: str, new: Any) -> None:
    """Add a stage or an action. The same function declared again, as by a notebook cell that is run twice,
    replaces its declaration. Raises ValueError if another function has the name."""
    functions = (getattr(each, "function", each) for each in (declared.get(name, new), new))
    earlier, now = (f"{function.__module__}.{function.__qualname__}" for function in functions)
    if earlier != now:
        raise ValueError(f"{name} is declared by {earlier} and by {now}: rename one")
    declared[name] = new


@dataclass(frozen=True)
class StageCall:
    """A stage with its settings and inputs. The content is read when the key is first asked for."""

    stage: Stage[Any]
    settings: Any
    inputs: Mapping[str, Manifest]
    context: RunContext | None = None
    at: Mapping[str, Any] = field(default_factory=dict)
    given: object = None

    @property
    def name(self) -> str:
        return self.stage.name

    @property
    def arguments(self) -> tuple[object, ...]:
        """The arguments of the function and of its content after the first two."""
        return () if self.given is None else (self.given,)

    @cached_property
    def ingredients(self) -> Mapping[str, Any]:
        """Everything the key is a digest of, flat, so that two manifests can be compared by name."""
        content = self.stage.content
        digests = {} if content is None else content(self.settings, self.context, *self.arguments)
        return {
            "version": self.stage.version,
            **flat("config", key_fields(self.settings)),
            **{f"content.{name}": digest for name, digest in digests.items()},
            **{f"input.{name}": manifest.digest for name, manifest in self.inputs.items()},
        }

    @cached_property
    def key(self) -> str:
        return jsonio.digest([self.name, self.ingredients])[:32]

    @property
    def slot(self) -> str:
        return self._filled(self.stage.slot or self.name).rstrip("/")

    @property
    def label(self) -> str:
        return self._filled(self.stage.label or self.stage.slot or self.name)

    @property
    def places(self) -> dict[str, str]:
        """Files and folders (which end in a slash) of the object by their place in the run's folder."""
        publishes = self.stage.publishes
        found = publishes(self.settings) if callable(publishes) else publishes
        return {name: self._filled(place) for name, place in found.items()}

    @property
    def shows(self) -> str:
        """The file of the run's folder in which a reader sees the output."""
        return self._filled(self.stage.shows) or next(iter(self.places.values()), f"result of {self.slot}")

    def without(self, parts: tuple[Any, ...]) -> StageCall:
        """The call without optional parts of the stage, which its settings list in `without`."""
        return replace(self, settings=self.settings.model_copy(update={"without": parts}))

    def _filled(self, template: Template) -> str:
        found = template(self.settings) if callable(template) else template
        return found.format(settings=self.settings, **self.at)


def flat(at: str, value: Any) -> dict[str, Any]:
    """The values of nested mappings by their paths from `at`, joined by dots."""
    if not isinstance(value, dict) or not value:
        return {at: value}
    out: dict[str, Any] = {}
    for name, inner in value.items():
        escaped = str(name).replace(".", "\\.")  # a user's own names may hold dots, fields do not
        out.update(flat(f"{at}.{escaped}", inner))
    return out


def changed(call: StageCall, earlier: Mapping[str, Any]) -> list[str]:
    """The ingredients that differ from an earlier record, as `name changed from a to b`."""
    out = []
    for name in dict.fromkeys([*call.ingredients, *earlier]):
        old, new = earlier.get(name), call.ingredients.get(name)
        if old != new:
            # A digest is recognized by its first ten digits.
            was, now = (text[:10] if len(text) == 64 else text[:60] for text in (str(old), str(new)))
            out.append(f"{name} changed from {was} to {now}")
    return out


@dataclass(frozen=True, slots=True)
class Built:
    """A stage's object, and whether it was there before."""

    manifest: Manifest
    reused: bool


def build(store: Store, call: StageCall, progress: Progress, *, refresh: bool = False) -> Built:
    """Return the object of a call: verified in the store, or built now; with `refresh`, always built.

    If another run is building it, wait for that run. Errors of the stage pass through after its unfinished
    files are removed. Errors of the system, such as a full disk, become a StoreError with place and remedy.
    """
    if not refresh and (manifest := store.sound(call.name, call.key)) is not None:
        return Built(manifest, reused=True)
    with store.lease(f"{call.name}/{call.key}", call.label):
        if not refresh and (manifest := store.sound(call.name, call.key)) is not None:
            return Built(manifest, reused=True)
        manifest = _built(store, call, progress, refresh=refresh)
    if call.stage.after is not None and call.context is not None:
        call.stage.after(call.context)
    return Built(manifest, reused=False)


def _built(store: Store, call: StageCall, progress: Progress, *, refresh: bool) -> Manifest:
    inputs = {name: store.folder(m) for name, m in call.inputs.items()}
    folder = store.begin(call.name, call.key)
    started, committing = time.monotonic(), False
    try:
        if call.stage.before is not None and call.context is not None:
            call.stage.before(call.context)
        io = StageIO(inputs, folder, progress, call.key, call.context)
        summary = call.stage(call.settings, io, *call.arguments)
        summary = {**summary, "seconds": round(time.monotonic() - started, 2)}
        committing = True
        return store.commit(call.name, call.key, folder, call.ingredients, summary, replace=refresh)
    except BaseException as e:
        # A signal may come after the manifest was written; if it came before, `understudy gc` removes this.
        if not committing or isinstance(e, Exception):
            store.abandon(folder)
        if isinstance(e, UnderstudyError) or not isinstance(e, OSError):
            raise
        if isinstance(e, ConnectionError | TimeoutError):
            raise PassingError(f"stage {call.label} lost a connection: {e}; it is retried") from e
        raise StoreError(
            f"stage {call.label} could not read or write {e.filename or folder}: {e.strerror or e}; free "
            "disk space or fix the disk, then run the same command again: finished stages are kept"
        ) from e
