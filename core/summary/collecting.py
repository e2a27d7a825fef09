"""Collect the metrics of all runs under a root, and what was skipped."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from core.errors import StoreError
from core.jsonio import InvalidFile, Record, parse
from core.records import SPLITS, SplitName
from core.store.disk import explained
from core.store.objects import Store
from core.store.runs import FOLDER, STATE
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

REQUESTS_AT_ONCE = 16
_NO_METRICS = {
    "reasoning": "metrics_{train,val,test}.json",
    "label_only": "metrics_{train,val,test}_label_only.json",
}


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file or folder, as a path under the root, that was not used as it is, and why."""

    place: str
    why: str


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A folder under runs/. `files` are the paths in it; None on a disk, where looking is cheap."""

    name: str
    files: frozenset[str] | None = None

    def may_have(self, path: str) -> bool:
        """Whether a file may exist."""
        return self.files is None or path in self.files

    def at(self, path: str) -> str:
        """A path in the folder, relative to the root."""
        return f"{FOLDER}/{self.name}/{path}".rstrip("/")


@dataclass(frozen=True, slots=True)
class Row:
    """Metrics of a run on one split in one mode, with the facts of the run."""

    run: str
    split: SplitName
    mode: Mode
    file: MetricsFile
    facts: RunFacts


@dataclass(frozen=True, slots=True)
class Collected:
    """Rows by run, split and mode, and what was skipped."""

    rows: Sequence[Row]
    skipped: Sequence[Skipped]

    @property
    def runs(self) -> int:
        """Number of runs that have rows."""
        return len({row.run for row in self.rows})


class _RunState(Record):
    state: str


def collect(store: Store, modes: Sequence[Mode] = MODES, *, with_facts: bool = True) -> Collected:
    """Read the metrics of every run; files and folders that cannot be used are skipped and named.

    Raises StoreError if the root cannot be listed, PassingError if it does not answer: a table that lacks
    rows for that reason would look complete.
    """
    folders, skipped = run_folders(store)
    paths = {metrics_path(split, mode): (split, mode) for split in SPLITS for mode in modes}
    substitutes = {bestval_path(s): s for s in SPLITS} if "reasoning" in modes else {}
    wanted = [*paths, *substitutes, *(READERS if with_facts else ())]
    contents, unreadable = _fetch(store, folders, wanted)
    skipped += unreadable
    unreadable_places = {each.place for each in unreadable}
    rows: list[Row] = []
    without_metrics: list[RunFolder] = []
    for folder in folders:
        found = {path: which for path, which in paths.items() if folder.at(path) in contents}
        for path, split in substitutes.items():
            if folder.at(path) in contents and (split, "reasoning") not in found.values():
                found[path] = (split, "reasoning")
                name = PurePosixPath(metrics_path(split, "reasoning")).name
                skipped.append(Skipped(folder.at(path), f"used in place of {name}, which is missing"))
        if found:
            facts, wrong = _facts(folder, contents)
            skipped += wrong
            for path, which in found.items():
                skipped += _add_row(rows, folder, path, which, contents, facts)
        elif not any(folder.at(path) in unreadable_places for path in paths):
            without_metrics.append(folder)
    skipped += _explain_missing(store, without_metrics, modes)
    return Collected(rows, sorted(skipped, key=lambda each: each.place))


def _add_row(
    rows: list[Row],
    folder: RunFolder,
    path: str,
    which: tuple[SplitName, Mode],
    contents: Mapping[str, bytes],
    facts: RunFacts,
) -> Iterator[Skipped]:
    place, (split, mode) = folder.at(path), which
    try:
        file, has_nan = read_metrics(contents[place], split)
    except InvalidFile as e:
        yield Skipped(place, str(e))
        return
    rows.append(Row(folder.name, split, mode, file, facts))
    if has_nan:
        yield Skipped(place, "contains NaN, which JSON does not allow; these cells are empty")


def _facts(folder: RunFolder, contents: Mapping[str, bytes]) -> tuple[RunFacts, list[Skipped]]:
    facts, wrong = RunFacts(), list[Skipped]()
    for path, read in READERS.items():
        data = contents.get(folder.at(path))
        if data is not None:
            try:
                facts = read(facts, data)
            except InvalidFile as e:
                wrong.append(Skipped(folder.at(path), str(e)))
    return facts, wrong


def _explain_missing(store: Store, folders: Sequence[RunFolder], modes: Sequence[Mode]) -> list[Skipped]:
    """Why folders have no metrics: unfinished runs, or other folders."""
    states, unreadable = _fetch(store, folders, [STATE])
    nothing = f"has no student_phase/{' or '.join(_NO_METRICS[mode] for mode in modes)}"
    skipped = []
    for folder in folders:
        try:
            state = parse(_RunState, states[folder.at(STATE)])[0].state
        except (KeyError, InvalidFile):
            state = "finished"
        unfinished = f"nothing is exported yet (state: {state})"
        skipped.append(Skipped(folder.at(""), nothing if state == "finished" else unfinished))
    return [*skipped, *unreadable]


def _fetch(
    store: Store, folders: Iterable[RunFolder], paths: Sequence[str]
) -> tuple[dict[str, bytes], list[Skipped]]:
    """The bytes of the files that exist, by path under the root, and the files that cannot be read."""
    wanted = [folder.at(path) for folder in folders for path in paths if folder.may_have(path)]

    def read(path: str) -> bytes | StoreError | None:
        try:
            found = store.backend.read(path)
        except StoreError as e:
            return e
        return None if found is None else found.data

    if store.backend.folder is not None:
        results = [read(path) for path in wanted]
    else:
        with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
            results = list(pool.map(read, wanted))
    contents = {path: data for path, data in zip(wanted, results, strict=True) if isinstance(data, bytes)}
    errors = [
        Skipped(path, str(e)) for path, e in zip(wanted, results, strict=True) if isinstance(e, StoreError)
    ]
    return contents, errors


def run_folders(store: Store) -> tuple[list[RunFolder], list[Skipped]]:
    """The folders under runs/ by name, and files that are in the place of a folder.

    A remote root is listed once. On a disk only runs/ itself is listed, since runs may have many files.
    Raises StoreError if that fails.
    """
    entries = _remote(store) if store.backend.folder is None else _local(store.backend.folder / FOLDER)
    folders, skipped = [], []
    for entry in entries:
        if isinstance(entry, RunFolder):
            folders.append(entry)
        elif not Path(entry.place).name.startswith("."):
            skipped.append(entry)
    return folders, skipped


def _remote(store: Store) -> Iterator[RunFolder | Skipped]:
    files: dict[str, set[str]] = {}
    for found in store.backend.list(FOLDER):
        _, name, *inside = found.path.split("/", 2)
        files.setdefault(name, set()).update(inside)
    for name, paths in sorted(files.items()):
        yield RunFolder(name, frozenset(paths)) if paths else _not_a_folder(name)


def _local(top: Path) -> Iterator[RunFolder | Skipped]:
    with explained(top, "list"):
        try:
            entries = sorted(os.scandir(top), key=lambda e: e.name)
        except FileNotFoundError:
            return
    for entry in entries:
        try:
            with explained(top / entry.name, "read"):
                yield RunFolder(entry.name) if entry.is_dir() else _not_a_folder(entry.name)
        except StoreError as e:
            yield Skipped(f"{FOLDER}/{entry.name}", str(e))


def _not_a_folder(name: str) -> Skipped:
    return Skipped(f"{FOLDER}/{name}", "is a file; runs are folders")
