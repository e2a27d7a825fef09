"""What a run leaves for people: its folder, the code that made it, and its reads of a test split.

A run's folder is filled from objects on cache hits and misses alike. `made_by.json` in it has the version and
commit of the code that made the run, and of any code that began it.

A read of test is a file `test_reads/<sha256 of test.csv>/<key>.json` for each frozen student that was
measured on the split, in any run; it is written before the metrics are computed. The key covers everything
that was frozen, so that measuring the same student again is not another read. Choosing among several students
by their test metrics is a selection on test: the count shows how many there were.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from core import durable, jsonio
from core.errors import MissingInputError, StoreError
from core.jsonio import InvalidFile, Record, indented, message, now, parse
from core.records import SplitName
from core.store.backend import Disk
from core.store.objects import Manifest, Store

FOLDER = "runs"
RECORD = "stages.json"
STATE = "run_state.json"
CONFIG = "resolved_config.yaml"
SUMMARY = "run_summary.json"
MADE_BY = "made_by.json"
COMMIT_VARIABLE = "UNDERSTUDY_COMMIT"
TEST_READS = "test_reads"
_CHECKOUT = Path(__file__).resolve().parents[2]


class StageRecord(Record):
    """An entry of stages.json: which object a stage of a run came from, and when it was recorded."""

    key: str
    at: str
    writer: str | None = None
    digest: str | None = None
    reused: bool = False


_RECORDS = TypeAdapter(dict[str, StageRecord])


class RunState(Record):
    """run_state.json: running, finished, stopped or failed, since when, and the error of a failed run."""

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

    def files(self) -> list[str]:
        """The places of its files."""
        folder = self._at("")
        return [found.path.removeprefix(folder) for found in self.store.backend.list(folder.rstrip("/"))]

    def fill(self, manifest: Manifest, files: Mapping[str, str]) -> None:
        """Copy an object's files (name in the object -> place in the view), each atomically."""
        for name, place in files.items():
            self.store.backend.copy(f"{manifest.folder}/{name}", self._at(place))
        durable.failpoint(durable.VIEW_FILLED, manifest.stage)

    def read(self, place: str) -> str | None:
        """Return a text of the view, None if it does not exist; undecodable bytes become U+FFFD."""
        found = self.read_bytes(place)
        return None if found is None else found.decode(errors="replace")

    def read_bytes(self, place: str) -> bytes | None:
        """Return a small file of the view; None if it does not exist."""
        found = self.store.backend.read(self._at(place))
        return None if found is None else found.data

    def read_json(self, place: str) -> Any | None:
        """Return the value of a JSON file of the view; None if it does not exist. Raises StoreError."""
        return self.store.read_json(self._at(place))

    def write(self, place: str, data: str) -> str:
        """Write a text of the view atomically; return its place as people write it."""
        self.store.backend.write(self._at(place), data.encode())
        return self.where(place)

    def write_json(self, place: str, value: Any) -> str:
        """Write a JSON file of the view. Raises ValueError on NaN."""
        return self.write(place, indented(value))

    @contextlib.contextmanager
    def replacing(self, place: str) -> Iterator[Path]:
        """Yield a path to write a file to, which then replaces `place`, unless there is an error."""
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
        """Record in stages.json which object a stage of this run came from."""
        record = StageRecord(
            key=manifest.key, at=now(), writer=manifest.writer, digest=manifest.digest, reused=reused
        )
        self._write_stages({**self.stages(), slot: record})
        durable.failpoint(durable.RECORD_WRITTEN, slot)

    def keep_only(self, slots: Iterable[str]) -> None:
        """Remove the record of all other stages, which the finished run did not use."""
        kept = set(slots)
        self._write_stages({slot: record for slot, record in self.stages().items() if slot in kept})

    def stages(self) -> dict[str, StageRecord]:
        """The record of the last run under this name; empty if there is none.

        Raises StoreError if it is damaged: what it refers to must not be taken for garbage.
        """
        found = self.read_json(RECORD)
        if found is None:
            return {}
        try:
            return _RECORDS.validate_python(found)
        except ValidationError as e:
            raise StoreError(
                f"{self.where(RECORD)} is not a record of stages ({message(e)}); remove it and run the same "
                "command again"
            ) from None

    def note_state(self, state: str, **more: Any) -> None:
        """Record the state of the run: running, finished, stopped or failed."""
        self.write_json(STATE, {"state": state, "at": now(), **more})

    def state(self) -> RunState | None:
        """The state that was recorded last; None if there is none."""
        try:
            return RunState.from_json(self.read_json(STATE), STATE)
        except InvalidFile:
            return None

    def earlier(self, slot: str, *, file: str) -> Manifest:
        """Return the object that this run's record names for a stage, verified.

        Raises MissingInputError with the run and the file if there is none.
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
                f"under {self.store.where('objects')}; switch the stage on to repeat it"
            )
        return manifest

    def config_text(self) -> str:
        """The resolved config of the run. Raises MissingInputError with the names of existing runs."""
        text = self.read(CONFIG)
        if text is not None:
            return text
        existing = run_names(self.store)
        if self.name in existing:
            raise MissingInputError(
                f"run {self.name} has no {self.where(CONFIG)}: it is not a run of this project"
            )
        raise MissingInputError(
            f"run {self.name} does not exist under {self.store.backend.url}; "
            + (f"there are: {', '.join(existing)}" if existing else "it has no runs")
        )

    def _at(self, place: str) -> str:
        return f"{FOLDER}/{self.name}/{place}"

    def _write_stages(self, stages: Mapping[str, StageRecord]) -> None:
        self.write_json(RECORD, {slot: record.to_json() for slot, record in stages.items()})


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


def run_names(store: Store) -> list[str]:
    """The runs under a root."""
    return sorted({f.path.split("/")[1] for f in store.backend.list(FOLDER) if f.path.count("/") > 1})


class CodeVersion(Record):
    """The version of the package, and its commit: with `-dirty` if files of the checkout were changed."""

    version: str | None = None
    commit: str | None = None


class EarlierCode(CodeVersion):
    """Code that was used under the run's name before."""

    at: str | None = None


class MadeBy(EarlierCode):
    """`made_by.json`. `before` lists other code that was used, the earliest first."""

    before: tuple[EarlierCode, ...] = ()


def record_code(view: RunView) -> None:
    """Write `made_by.json` of a run; other code that it names moves to `before`."""
    code, earlier = current_code(), MadeBy()
    with contextlib.suppress(InvalidFile):
        earlier, _ = parse(MadeBy, view.read_bytes(MADE_BY) or b"")
    last, before = EarlierCode(**earlier.model_dump(exclude={"before"})), earlier.before
    if last.at is not None and (last.version, last.commit) != (code.version, code.commit):
        before = (*before, last)
    made_by = MadeBy(version=code.version, commit=code.commit, at=now(), before=before)
    view.write_json(MADE_BY, made_by.to_json())


@lru_cache
def current_code() -> CodeVersion:
    """Return the running code's version and commit.

    The commit is that of the checkout; an installed package has the value of UNDERSTUDY_COMMIT instead.
    """
    version = commit = None
    with contextlib.suppress(metadata.PackageNotFoundError):
        version = metadata.version("understudy-distill")
    if (_CHECKOUT / ".git").exists():  # a checkout around the environment is another project
        command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        env = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # do not disturb a commit in progress
        # Without git, or in a folder of another owner, the commit is unknown.
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            found = subprocess.run(
                command, cwd=_CHECKOUT, capture_output=True, text=True, timeout=10, check=True, env=env
            )
            commit = found.stdout.strip() or None
    else:
        commit = os.environ.get(COMMIT_VARIABLE, "").strip() or None
    return CodeVersion(version=version, commit=commit)


@dataclass(frozen=True, slots=True)
class Read:
    """One frozen student on one test split: in which run, when (ISO 8601), and which student."""

    run: str
    at: str
    what: str


def split_digest(split: Manifest, name: SplitName = "test") -> str:
    """The identity of a part of a split: the sha256 of its texts and labels, in their order."""
    return split.files[f"{name}.csv"].sha256


def note_test_read(store: Store, split: Manifest, frozen: Sequence[Manifest], run: str, what: str) -> None:
    """Record that a student, which `frozen` consists of, is about to be measured on the split's test."""
    key = jsonio.digest([manifest.digest for manifest in frozen])[:32]
    read = jsonio.as_row(Read(run, now(), what))
    store.backend.create(f"{TEST_READS}/{split_digest(split)}/{key}.json", jsonio.indented(read).encode())


def find_test_reads(store: Store, split: Manifest) -> list[Read]:
    """All reads of the split's test under the root, the earliest first.

    Raises StoreError for a damaged record: a read that is not counted would be hidden.
    """
    found = []
    record = TypeAdapter(Read)
    for file in store.backend.list(f"{TEST_READS}/{split_digest(split)}"):
        if file.path.endswith(".json"):
            try:
                found.append(record.validate_python(store.read_json(file.path)))
            except ValidationError:
                raise StoreError(
                    f"{store.where(file.path)} is not a record of a read of test; remove it and run the same "
                    "command again"
                ) from None
    return sorted(found, key=lambda read: (read.at, read.run))
