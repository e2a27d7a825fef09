"""Collect the metrics of all runs under a root, and what was skipped."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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

REQUESTS_AT_ONCE = 16
_ENDINGS = {"reasoning": "", "label_only": "_label_only"}
_A_FILE = "is a file; runs are folders"


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file or folder, as a path under the root, that was not used as it is, and why."""

    place: str
    why: str


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A folder under runs/. `files` are the paths in it; None on a disk, where each is tried instead."""

    name: str
    files: frozenset[str] | None = None

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


def collect(store: Store, modes: Sequence[Mode] = MODES, *, with_facts: bool = True) -> Collected:
    """Read the metrics of every run; files and folders that cannot be used are skipped and named.

    Raises StoreError if the root cannot be listed, PassingError if it does not answer: a table that lacks
    rows for that reason would look complete.
    """
    folders, skipped = run_folders(store)
    usual = {metrics_path(split, mode): (split, mode) for split in SPLITS for mode in modes}
    bestval = {bestval_path(split): split for split in SPLITS} if "reasoning" in modes else {}
    wanted = [*usual, *bestval, *(READERS if with_facts else ())]
    contents, unreadable = _fetch(store, folders, wanted)
    skipped += unreadable
    unreadable_places = {each.place for each in unreadable}
    rows, without_metrics = list[Row](), list[RunFolder]()
    for folder in folders:
        files = contents[folder.name]
        found = {path: which for path, which in usual.items() if path in files}
        for path, split in bestval.items():
            if path in files and (split, "reasoning") not in found.values():
                found[path] = (split, "reasoning")
                name = PurePosixPath(metrics_path(split, "reasoning")).name
                skipped.append(Skipped(folder.at(path), f"used in place of {name}, which is missing"))
        if found:
            made, wrong = _rows(folder, files, found)
            rows += made
            skipped += wrong
        elif not any(folder.at(path) in unreadable_places for path in usual):
            without_metrics.append(folder)
    skipped += _explain_missing(store, without_metrics, modes)
    return Collected(rows, sorted(skipped, key=lambda each: each.place))


def _rows(
    folder: RunFolder, files: Mapping[str, bytes], found: Mapping[str, tuple[SplitName, Mode]]
) -> tuple[list[Row], list[Skipped]]:
    """The rows of a run; an invalid file next to the metrics costs only its own columns."""
    rows, wrong, facts = list[Row](), list[Skipped](), RunFacts()
    for path, read in READERS.items():
        try:
            facts = read(facts, files[path]) if path in files else facts
        except InvalidFile as e:
            wrong.append(Skipped(folder.at(path), str(e)))
    for path, (split, mode) in found.items():
        try:
            file, has_nan = read_metrics(files[path], split)
        except InvalidFile as e:
            wrong.append(Skipped(folder.at(path), str(e)))
            continue
        rows.append(Row(folder.name, split, mode, file, facts))
        if has_nan:
            wrong.append(
                Skipped(folder.at(path), "contains NaN, which JSON does not allow; these cells are empty")
            )
    return rows, wrong


def _explain_missing(store: Store, folders: Sequence[RunFolder], modes: Sequence[Mode]) -> list[Skipped]:
    """Why folders have no metrics: unfinished runs, or other folders."""
    states, skipped = _fetch(store, folders, [STATE])
    names = (f"metrics_{{train,val,test}}{_ENDINGS[mode]}.json" for mode in modes)
    nothing = f"has no student_phase/{' or '.join(names)}"
    for folder in folders:
        state = "finished"
        with contextlib.suppress(KeyError, InvalidFile):
            state = parse(RunState, states[folder.name][STATE])[0].state
        unfinished = f"nothing is exported yet (state: {state})"
        skipped.append(Skipped(folder.at(""), nothing if state == "finished" else unfinished))
    return skipped


def _fetch(
    store: Store, folders: Sequence[RunFolder], paths: Sequence[str]
) -> tuple[dict[str, dict[str, bytes]], list[Skipped]]:
    """The existing files by run and path in its folder, and the files that cannot be read."""
    wanted = [(f, path) for f in folders for path in paths if f.files is None or path in f.files]

    def read(of: tuple[RunFolder, str]) -> bytes | StoreError | None:
        try:
            found = store.backend.read(of[0].at(of[1]))
        except StoreError as e:
            return e
        return None if found is None else found.data

    if store.backend.folder is not None:
        results = list(map(read, wanted))
    else:
        with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
            results = list(pool.map(read, wanted))
    contents: dict[str, dict[str, bytes]] = {folder.name: {} for folder in folders}
    errors = []
    for (folder, path), result in zip(wanted, results, strict=True):
        if isinstance(result, StoreError):
            errors.append(Skipped(folder.at(path), str(result)))
        elif result is not None:
            contents[folder.name][path] = result
    return contents, errors


def run_folders(store: Store) -> tuple[list[RunFolder], list[Skipped]]:
    """The folders under runs/ by name, and files that are in the place of a folder.

    A remote root is listed once. On a disk only runs/ itself is listed, since runs may have many files.
    Raises StoreError if that fails.
    """
    folders, others = list[RunFolder](), dict[str, str]()
    if store.backend.folder is None:
        files: dict[str, set[str]] = {}
        for found in store.backend.list(FOLDER):
            _, name, *inside = found.path.split("/", 2)
            files.setdefault(name, set()).update(inside)
        folders = [RunFolder(name, frozenset(paths)) for name, paths in sorted(files.items()) if paths]
        others = {name: _A_FILE for name, paths in sorted(files.items()) if not paths}
    else:
        top, entries = store.backend.folder / FOLDER, list[os.DirEntry[str]]()
        with explained(top, "list"), contextlib.suppress(FileNotFoundError):
            entries = sorted(os.scandir(top), key=lambda e: e.name)
        for entry in entries:
            try:
                with explained(top / entry.name, "read"):
                    is_folder = entry.is_dir()
            except StoreError as e:
                others[entry.name] = str(e)
                continue
            if is_folder:
                folders.append(RunFolder(entry.name))
            else:
                others[entry.name] = _A_FILE
    shown = {name: why for name, why in others.items() if not name.startswith(".")}
    return folders, [Skipped(f"{FOLDER}/{name}", why) for name, why in shown.items()]
