"""What lies under runs/: the folders that may be runs, and what can be none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from core.errors import StoreError
from core.store.disk import explained
from core.store.objects import Store
from core.store.runs import FOLDER


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A file or folder, as a path under the root, that a table does without, and why."""

    place: str
    why: str


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A folder under runs/. `files` are the places in it; None on a disk, where looking costs nothing."""

    name: str
    files: frozenset[str] | None = None

    def may_have(self, place: str) -> bool:
        """Whether a file may be there."""
        return self.files is None or place in self.files

    def at(self, place: str) -> str:
        """A place in it, as a path under the root."""
        return f"{FOLDER}/{self.name}/{place}".rstrip("/")


def run_folders(store: Store) -> tuple[list[RunFolder], list[PassedOver]]:
    """The folders under runs/ by name, and the files that stand in a folder's place.

    A remote root is listed once; of a disk only runs/ itself is, since a run may hold many files.
    Raises StoreError where that cannot be done.
    """
    entries = _listed(store) if store.backend.folder is None else _on_disk(store.backend.folder / FOLDER)
    folders, passed = [], []
    for entry in entries:
        if isinstance(entry, RunFolder):
            folders.append(entry)
        elif not Path(entry.place).name.startswith("."):
            passed.append(entry)
    return folders, passed


def _listed(store: Store) -> Iterator[RunFolder | PassedOver]:
    files: dict[str, set[str]] = {}
    for found in store.backend.list(FOLDER):
        _, name, *inside = found.path.split("/", 2)
        files.setdefault(name, set()).update(inside)
    for name, places in sorted(files.items()):
        yield RunFolder(name, frozenset(places)) if places else _no_folder(name)


def _on_disk(top: Path) -> Iterator[RunFolder | PassedOver]:
    with explained(top, "list"):
        try:
            entries = sorted(os.scandir(top), key=lambda e: e.name)
        except FileNotFoundError:
            return
    for entry in entries:
        try:
            with explained(top / entry.name, "read"):
                yield RunFolder(entry.name) if entry.is_dir() else _no_folder(entry.name)
        except StoreError as e:
            yield PassedOver(f"{FOLDER}/{entry.name}", str(e))


def _no_folder(name: str) -> PassedOver:
    return PassedOver(f"{FOLDER}/{name}", "a file, where runs are folders")
