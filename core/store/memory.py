"""A root in this process's memory, for tests: fsspec's memory:// with conditions kept under a lock."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import fsspec

from core.store.backend import Content, Found

_LOCK = threading.RLock()


class Memory:
    """The store's root below memory://."""

    folder = None

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._base = "/" + self.url.removeprefix("memory://").strip("/")
        self._fs: Any = fsspec.filesystem("memory")

    def check(self) -> None:
        """Memory can always be written."""

    def read(self, path: str) -> Content | None:
        """A file with the digest of its bytes as version."""
        with _LOCK:
            try:
                data: bytes = self._fs.cat_file(self._at(path))
            except FileNotFoundError:
                return None
        return Content(data, _version(data))

    def write(self, path: str, data: bytes) -> None:
        """Put the bytes."""
        with _LOCK:
            self._fs.pipe_file(self._at(path), data)

    def create(self, path: str, data: bytes) -> bool:
        """Put the bytes where there are none."""
        with _LOCK:
            if self._fs.exists(self._at(path)):
                return False
            self.write(path, data)
            return True

    def swap(self, path: str, data: bytes, version: str) -> bool:
        """Compare and put."""
        with _LOCK:
            found = self.read(path)
            if found is None or found.version != version:
                return False
            self.write(path, data)
            return True

    def discard(self, path: str, version: str) -> None:
        """Compare and remove."""
        with _LOCK:
            found = self.read(path)
            if found is not None and found.version == version:
                self._fs.rm_file(self._at(path))

    def list(self, prefix: str) -> list[Found]:
        """All files below a folder; the etag is the digest of the bytes."""
        with _LOCK:
            found = self._fs.find(self._at(prefix), detail=True)
            return [
                Found(
                    path.removeprefix(f"{self._base}/"),
                    info["size"],
                    float(info["created"]),
                    _version(self._fs.cat_file(path)),
                )
                for path, info in sorted(found.items())
            ]

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files."""
        with _LOCK:
            for path in paths:
                if self._fs.exists(self._at(path)):
                    self._fs.rm_file(self._at(path))

    def upload(self, source: Path, path: str) -> None:
        """Put a file's bytes."""
        self.write(path, source.read_bytes())

    def download(self, path: str, target: Path) -> None:
        """Write the bytes to a file."""
        target.write_bytes(self._fs.cat_file(self._at(path)))

    def copy(self, source: str, target: str) -> None:
        """Put the same bytes elsewhere."""
        with _LOCK:
            self.write(target, self._fs.cat_file(self._at(source)))

    def _at(self, path: str) -> str:
        return f"{self._base}/{path}".rstrip("/")


def _version(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
