"""A run's folder: the view people read, filled from objects on a hit and on a miss alike."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from core import failpoints
from core.errors import MissingInputError, StoreError
from core.jsonio import now
from core.store.disk import Disk
from core.store.manifest import Manifest
from core.store.objects import Store

FOLDER = "runs"
RECORD = "stages.json"
STATE = "run_state.json"
CONFIG = "resolved_config.yaml"
SUMMARY = "run_summary.json"


@dataclass(frozen=True, slots=True)
class StageRecord:
    """An entry of stages.json: which object a stage of a run came from, and when it was recorded."""

    key: str
    at: str
    writer: str | None = None
    digest: str | None = None
    reused: bool = False


@dataclass(frozen=True, slots=True)
class RunState:
    """run_state.json: running, finished, stopped or failed, since when, and why a failed run failed."""

    state: str
    at: str | None = None
    error: str | None = None
    mistake: bool = False
    """Whether the user can fix the error."""


@dataclass(frozen=True, slots=True)
class RunView:
    """The folder `runs/<name>` and its record of which object each stage came from."""

    store: Store
    name: str

    def where(self, place: str = "") -> str:
        """A place in the view as people write it."""
        return self.store.where(self._at(place)).rstrip("/")

    def exists(self) -> bool:
        """Whether anything of this run is there."""
        return bool(self.store.backend.list(self._at("").rstrip("/")))

    def files(self) -> list[str]:
        """The places in it that hold a file."""
        folder = self._at("")
        return [found.path.removeprefix(folder) for found in self.store.backend.list(folder.rstrip("/"))]

    def fill(self, manifest: Manifest, files: Mapping[str, str]) -> None:
        """Copy an object's files (name in the object -> place in the view), each at once."""
        for name, place in files.items():
            self.store.backend.copy(f"{manifest.folder}/{name}", self._at(place))
        failpoints.hit(failpoints.VIEW_FILLED, manifest.stage)

    def read(self, place: str) -> str | None:
        """One text of the view, None where there is none; bytes that are no text come as U+FFFD."""
        found = self.bytes(place)
        return None if found is None else found.decode(errors="replace")

    def bytes(self, place: str) -> bytes | None:
        """One small file of the view, None where there is none."""
        found = self.store.backend.read(self._at(place))
        return None if found is None else found.data

    def write(self, place: str, data: str) -> str:
        """Write one text of the view, at once; returns where."""
        self.store.backend.write(self._at(place), data.encode())
        return self.where(place)

    def write_json(self, place: str, value: Any) -> str:
        """Write one JSON file of the view; NaN is refused."""
        return self.write(place, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    @contextlib.contextmanager
    def replacing(self, place: str) -> Iterator[Path]:
        """A path to write a file to, which then takes its place at once; on an error, nothing does."""
        backend = self.store.backend
        if isinstance(backend, Disk):
            with backend.replacing(self._at(place)) as temporary:
                yield temporary
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(place).name
            yield path
            backend.upload(path, self._at(place))

    def clear(self, place: str) -> None:
        """Remove every file below a place."""
        self.store.backend.remove([f.path for f in self.store.backend.list(self._at(place))])

    def record(self, slot: str, manifest: Manifest, *, reused: bool) -> None:
        """Note in stages.json which object a stage of this run came from."""
        record = StageRecord(manifest.key, now(), manifest.writer, manifest.digest, reused)
        self._write_stages({**self.stages(), slot: record})
        failpoints.hit(failpoints.RECORD_WRITTEN, slot)

    def keep_only(self, slots: Iterable[str]) -> None:
        """Forget the record of stages that the finished run did not come by."""
        kept = set(slots)
        self._write_stages({slot: record for slot, record in self.stages().items() if slot in kept})

    def forget(self, slots: Iterable[str]) -> None:
        """Forget the record of these stages."""
        gone = set(slots)
        self.keep_only(slot for slot in self.stages() if slot not in gone)

    def stages(self) -> dict[str, StageRecord]:
        """The record of the last run under this name; empty if there is none.

        Raises StoreError if it is damaged: what it refers to must not be taken for garbage.
        """
        found = self.store.read_json(self._at(RECORD))
        if found is None:
            return {}
        if not isinstance(found, dict) or not all(_is_entry(entry) for entry in found.values()):
            raise StoreError(
                f"{self.where(RECORD)} is no record of stages; remove it and run the same command again"
            )
        return {slot: _known(StageRecord, entry) for slot, entry in found.items()}

    def _write_stages(self, stages: Mapping[str, StageRecord]) -> None:
        self.write_json(RECORD, {slot: asdict(record) for slot, record in stages.items()})

    def note_state(self, state: str, **more: Any) -> None:
        """Write down how the run stands: running, finished, stopped or failed."""
        self.write_json(STATE, {"state": state, "at": now(), **more})

    def state(self) -> RunState | None:
        """The state that was recorded last; None if there is none."""
        found = self.store.read_json(self._at(STATE))
        if not isinstance(found, dict) or not isinstance(found.get("state"), str):
            return None
        return _known(RunState, found)

    def earlier(self, slot: str, *, file: str) -> Manifest:
        """The object that this run's record names for a stage, checked.

        Raises MissingInputError naming the run and the file where there is none.
        """
        entry = self.stages().get(slot)
        if entry is None:
            raise MissingInputError(
                f"stage {slot} is switched off, and run {self.name} has no {file} of its own "
                f"({self.where(file)}); switch the stage on, or name a run with teacher_from"
            )
        manifest = self.store.sound(slot.partition("/")[0], entry.key)
        if manifest is None:
            raise MissingInputError(
                f"run {self.name}: the {slot} it used (key {entry.key[:12]}) is missing or damaged "
                f"under {self.store.where('objects')}; switch the stage on to make it again"
            )
        return manifest

    def config_text(self) -> str:
        """The resolved config of the run. Raises MissingInputError naming the runs there are."""
        text = self.read(CONFIG)
        if text is not None:
            return text
        there = run_names(self.store)
        if self.name in there:
            raise MissingInputError(
                f"run {self.name} has no {self.where(CONFIG)}: it is none of this project's"
            )
        raise MissingInputError(
            f"there is no run {self.name} under {self.store.backend.url}; "
            + (f"there are: {', '.join(there)}" if there else "it has no runs")
        )

    def _at(self, place: str) -> str:
        return f"{FOLDER}/{self.name}/{place}"


class ReadOnlyRun(RunView):
    """A run's folder for a plan: what would be written to it is discarded."""

    __slots__ = ()

    def fill(self, manifest: Manifest, files: Mapping[str, str]) -> None:
        """Discard."""

    def write(self, place: str, data: str) -> str:
        """Discard."""
        return self.where(place)

    def clear(self, place: str) -> None:
        """Keep what is there."""


_Known = TypeVar("_Known", StageRecord, RunState)


def _known(record: type[_Known], entry: Mapping[str, Any]) -> _Known:
    """The record in a JSON object; fields that it does not have are ignored."""
    return record(**{f.name: entry[f.name] for f in fields(record) if f.name in entry})


def _is_entry(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(name), str) for name in ("key", "at"))


def run_names(store: Store) -> list[str]:
    """The runs under a root."""
    return sorted({f.path.split("/")[1] for f in store.backend.list(FOLDER) if f.path.count("/") > 1})
