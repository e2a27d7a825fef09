"""Local copies of a remote root's objects, in the user's cache, verified once per process."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from core import jsonio
from core.errors import StoreError
from core.files import replacing, user_cache
from core.store.backend import Backend
from core.store.disk import explained
from core.store.manifest import FileEntry, Manifest


@dataclass(frozen=True, slots=True)
class Copies:
    """The copies of one root."""

    backend: Backend
    folder: Path
    _verified: set[Path] = field(default_factory=set)

    @classmethod
    def of(cls, backend: Backend) -> Copies:
        """Return the copies in the user's cache."""
        root = hashlib.sha256(backend.url.encode()).hexdigest()[:16]
        return cls(backend, user_cache() / "objects" / root)

    def file(self, manifest: Manifest, name: str) -> Path:
        """Return a file of an object, downloaded unless there is an intact copy.

        Raises StoreError if the download does not match the manifest.
        """
        relative, entry = f"{manifest.folder}/{name}", manifest.files[name]
        path = self.folder / relative
        if path in self._verified and path.is_file():
            return path
        with explained(path, "read"):
            intact = _matches(path, entry)
        if not intact:
            with explained(path, "write"):
                path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                self.backend.download(relative, temporary)
                if not _matches(temporary, entry):
                    raise StoreError(
                        f"{self.backend.url}/{relative} does not match its manifest; "
                        "run the same command again: the stage is repeated"
                    )
        self._verified.add(path)
        return path

    def verify(self, manifest: Manifest, name: str) -> bool:
        """Download a file again; return whether its bytes match the manifest."""
        path = self.folder / manifest.folder / name
        path.unlink(missing_ok=True)
        self._verified.discard(path)
        try:
            self.file(manifest, name)
        except (StoreError, FileNotFoundError):
            return False
        return True

    def trust(self, paths: Iterable[Path]) -> None:
        """Mark copies as verified that this process has just written."""
        self._verified.update(paths)

    def sweep(self, kept: set[str], grace: float) -> None:
        """Remove copies older than `grace` seconds whose folder under the root is not in `kept`."""
        for folder in self.folder.glob("objects/*/*/*"):
            stale = time.time() - folder.stat().st_mtime > grace
            if stale and folder.relative_to(self.folder).as_posix() not in kept:
                shutil.rmtree(folder, ignore_errors=True)


def _matches(path: Path, entry: FileEntry) -> bool:
    return path.is_file() and path.stat().st_size == entry.bytes and jsonio.file_digest(path) == entry.sha256
