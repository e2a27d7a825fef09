"""Local copies of a remote root's objects, in the user's cache, checked once a process."""

from __future__ import annotations

import hashlib
import shutil
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from core import jsonio
from core.errors import StoreError
from core.files import user_cache
from core.store.backend import Backend
from core.store.disk import explained
from core.store.manifest import FileEntry, Manifest


@dataclass(frozen=True, slots=True)
class Copies:
    """The copies of one root."""

    backend: Backend
    folder: Path
    _checked: set[Path] = field(default_factory=set)

    @classmethod
    def of(cls, backend: Backend) -> Copies:
        """Those in the user's cache."""
        root = hashlib.sha256(backend.url.encode()).hexdigest()[:16]
        return cls(backend, user_cache() / "objects" / root)

    def place(self, relative: str) -> Path:
        """Where the copy of a path under the root is."""
        return self.folder / relative

    def file(self, manifest: Manifest, name: str) -> Path:
        """A file of an object, fetched where there is no sound copy of it.

        Raises StoreError where what is fetched is not what the manifest names.
        """
        path = self.place(f"{manifest.folder}/{name}")
        if path in self._checked and path.is_file():
            return path
        entry = manifest.files[name]
        with explained(path, "read"):
            whole = _holds(path, entry)
        if not whole:
            self._fetch(f"{manifest.folder}/{name}", path, entry)
        self._checked.add(path)
        return path

    def holds(self, manifest: Manifest, name: str) -> bool:
        """Whether the object's file, as the root has it now, is what the manifest names; by its bytes."""
        path = self.place(f"{manifest.folder}/{name}")
        path.unlink(missing_ok=True)
        self._checked.discard(path)
        try:
            self.file(manifest, name)
        except (StoreError, FileNotFoundError):
            return False
        return True

    def trust(self, paths: Iterable[Path]) -> None:
        """These were written here, just now."""
        self._checked.update(paths)

    def sweep(self, kept: set[str], grace: float) -> None:
        """Remove copies of objects that the root has no more, if they are older than `grace` seconds."""
        for folder in self.folder.glob("objects/*/*/*"):
            stale = time.time() - folder.stat().st_mtime > grace
            if stale and folder.relative_to(self.folder).as_posix() not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def _fetch(self, relative: str, path: Path, entry: FileEntry) -> None:
        with explained(path, "write"):
            path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
        try:
            self.backend.download(relative, part)
            if not _holds(part, entry):
                raise StoreError(
                    f"{self.backend.url}/{relative} is not what its manifest names; "
                    "run the same command again: the stage is made anew"
                )
            with explained(path, "write"):
                part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def _holds(path: Path, entry: FileEntry) -> bool:
    return path.is_file() and path.stat().st_size == entry.bytes and jsonio.file_digest(path) == entry.sha256
