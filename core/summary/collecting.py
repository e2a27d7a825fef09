"""Collect the metrics of all runs under a root, and what was skipped."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from core.errors import StoreError
from core.jsonio import InvalidFile, parse
from core.records import SPLITS, SplitName
from core.store.backend import explained
from core.store.objects import Store
from core.store.runs import FOLDER, STATE, RunState
from core.summary.files import (
    MODES,
    READERS,
    MetricsFile,
    Mode,
    RunFacts,
    bestval_path,
    metrics_path,
    read_metrics,
)

RUNS_AT_ONCE = 16
"""Runs of a remote root that are read in parallel."""
_ENDINGS = {"reasoning": "", "label_only": "_label_only"}
_HAS_NAN = "contains NaN, which JSON does not allow; these cells are empty"


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file or folder, as a path under the root, that was not used as it is, and why."""

    place: str
    why: str


@dataclass(frozen=True, slots=True)
class RunRow:
    """Metrics of a run on one split in one mode, with the facts of the run."""

    run: str
    split: SplitName
    mode: Mode
    file: MetricsFile
    facts: RunFacts


@dataclass(frozen=True, slots=True)
class Collected:
    """Rows by run, split and mode, and what was skipped."""

    rows: Sequence[RunRow]
    skipped: Sequence[Skipped]

    @property
    def runs(self) -> int:
        """Number of runs that have rows."""
        return len({row.run for row in self.rows})


def collect(store: Store, modes: Sequence[Mode] = MODES, *, with_facts: bool = True) -> Collected:
    """Read the metrics of every run; files and folders that cannot be used are skipped and named.

    Raises StoreError if the root cannot be listed, PassingError if it does not answer: a table that lacks
    rows for that reason would look complete.
    """
    runs, skipped = _runs(store)

    def read(run: _Run) -> list[RunRow]:
        return run.rows(modes, with_facts)

    if store.backend.folder is not None:
        found = list(map(read, runs))
    else:
        with ThreadPoolExecutor(RUNS_AT_ONCE) as pool:
            found = list(pool.map(read, runs))
    skipped += [each for run in runs for each in run.skipped]
    return Collected([row for rows in found for row in rows], sorted(skipped, key=lambda each: each.place))


@dataclass(frozen=True, slots=True)
class _Run:
    """A folder under runs/. `files` are the paths in it; None on a disk, where each is tried instead."""

    store: Store
    name: str
    files: set[str] | None
    skipped: list[Skipped] = field(default_factory=list)

    def rows(self, modes: Sequence[Mode], with_facts: bool) -> list[RunRow]:
        """Read the run; an invalid file next to the metrics costs only its own columns."""
        contents, rows = list(self._contents(modes)), list[RunRow]()
        if not contents:
            if not self.skipped:
                self._skip("", self._why_empty(modes))
            return rows
        facts = self._facts() if with_facts else RunFacts()
        for path, split, mode, data in contents:
            try:
                file, has_nan = read_metrics(data, split)
            except InvalidFile as e:
                self._skip(path, str(e))
                continue
            rows.append(RunRow(self.name, split, mode, file, facts))
            if has_nan:
                self._skip(path, _HAS_NAN)
        return rows

    def _contents(self, modes: Sequence[Mode]) -> Iterator[tuple[str, SplitName, Mode, bytes]]:
        """Yield the metrics files that exist; those of the best checkpoint stand in for missing ones."""
        for split in SPLITS:
            for mode in modes:
                path = metrics_path(split, mode)
                data = self._read(path)
                if data is None and mode == "reasoning":
                    name, path = PurePosixPath(path).name, bestval_path(split)
                    data = self._read(path)
                    if data is not None:
                        self._skip(path, f"used in place of {name}, which is missing")
                if data is not None:
                    yield path, split, mode, data

    def _facts(self) -> RunFacts:
        facts = RunFacts()
        for path, add in READERS.items():
            try:
                facts = facts if (data := self._read(path)) is None else add(facts, data)
            except InvalidFile as e:
                self._skip(path, str(e))
        return facts

    def _why_empty(self, modes: Sequence[Mode]) -> str:
        """Why a run has no metrics: the run is unfinished, or it is another kind of folder."""
        with contextlib.suppress(InvalidFile):
            data = self._read(STATE)
            state = "finished" if data is None else parse(RunState, data)[0].state
            if state != "finished":
                return f"nothing is exported yet (state: {state})"
        names = (f"metrics_{{train,val,test}}{_ENDINGS[mode]}.json" for mode in modes)
        return f"has no student_phase/{' or '.join(names)}"

    def _read(self, path: str) -> bytes | None:
        """A file's content; None if it does not exist, or cannot be read and is skipped."""
        if self.files is not None and path not in self.files:
            return None
        try:
            found = self.store.backend.read(f"{FOLDER}/{self.name}/{path}")
        except StoreError as e:
            self._skip(path, str(e))
            return None
        return None if found is None else found.data

    def _skip(self, path: str, why: str) -> None:
        self.skipped.append(Skipped(f"{FOLDER}/{self.name}/{path}".rstrip("/"), why))


def _runs(store: Store) -> tuple[list[_Run], list[Skipped]]:
    """The folders under runs/ by name, and files that are in the place of a folder.

    A remote root is listed once. On a disk only runs/ itself is listed, since runs may have many files.
    Raises StoreError if that fails.
    """
    runs, skipped = list[_Run](), list[Skipped]()
    paths_of: dict[str, set[str] | None] = {}  # None on a disk; without any paths it is a file
    if (folder := store.backend.folder) is not None:
        with explained(folder / FOLDER, "list"), contextlib.suppress(FileNotFoundError):
            for path in (folder / FOLDER).iterdir():
                try:
                    with explained(path, "read"):
                        paths_of[path.name] = None if path.is_dir() else set()
                except StoreError as e:  # a link into a folder of another user, for example
                    skipped.append(Skipped(f"{FOLDER}/{path.name}", str(e)))
    else:
        by_run = defaultdict[str, set[str]](set)
        for found in store.backend.list(FOLDER):
            _, name, *inside = found.path.split("/", 2)
            by_run[name].update(inside)
        paths_of |= by_run
    for name, paths in sorted(paths_of.items()):
        if paths is None or paths:
            runs.append(_Run(store, name, paths))
        elif not name.startswith("."):
            skipped.append(Skipped(f"{FOLDER}/{name}", "is a file; runs are folders"))
    return runs, skipped
