"""The place of the store's root: whole files, conditional writes, listings. Here on a disk, on S3 in s3.py.

All paths are relative to the root, with forward slashes. Every method raises StoreError with place and
remedy, or PassingError if trying again may help.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from filelock import FileLock

from core import durable
from core.errors import StoreError, UnderstudyError

LOCK = ".lock"


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file in a listing. `modified` is seconds since 1970; `etag` is None on disk."""

    path: str
    bytes: int
    modified: float
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """A file's bytes, and the version that a conditional write names."""

    data: bytes
    version: str


class Backend(Protocol):
    """A root on a disk or on S3."""

    @property
    def url(self) -> str:
        """The root as people write it."""

    @property
    def folder(self) -> Path | None:
        """The root as a local folder; None if it is remote."""

    def check(self) -> None:
        """Check before any work that the root can be written and that conditions are honored."""

    def read(self, path: str) -> Content | None:
        """Return a small file; None if it does not exist."""

    def write(self, path: str, data: bytes) -> None:
        """Replace the content of `path` atomically."""

    def create(self, path: str, data: bytes) -> bool:
        """Write `path` if it does not exist; return False if it exists with other bytes."""

    def swap(self, path: str, data: bytes, version: str) -> bool:
        """Write `path` if its version is `version`; return False if it has another or is gone.

        `data` must be unlike any other writer's, so that the own write can be recognized after a lost reply.
        """

    def discard(self, path: str, version: str) -> None:
        """Remove a file if its version is `version`."""

    def list(self, prefix: str) -> list[FoundFile]:
        """Return all files below a folder, hidden ones included, sorted by path."""

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files; missing ones are ignored."""

    def upload(self, source: Path, path: str) -> None:
        """Copy a local file into the root."""

    def download(self, path: str, target: Path) -> None:
        """Copy a file to a local path. Raises FileNotFoundError if it does not exist."""

    def copy(self, source: str, target: str) -> None:
        """Copy within the root, atomically."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A folder as root: files are written, synced and renamed. A version is the digest of a file's bytes."""

    folder: Path

    @property
    def url(self) -> str:
        return str(self.folder)

    def check(self) -> None:
        probe = f".probe-{uuid.uuid4().hex[:8]}"
        self.write(probe, b"probe\n")
        (self.folder / probe).unlink()

    def read(self, path: str) -> Content | None:
        with explained(self.folder / path, "read"):
            try:
                data = (self.folder / path).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None
        return Content(data, _version(data))

    def write(self, path: str, data: bytes) -> None:
        with explained(self.folder / path, "write"):
            durable.replace_bytes(self.folder / path, data)

    def create(self, path: str, data: bytes) -> bool:
        with explained(self.folder / path, "write"):
            return durable.create_bytes(self.folder / path, data)

    def swap(self, path: str, data: bytes, version: str) -> bool:
        with self._locked(path, version) as place:
            if place is not None:
                durable.replace_bytes(place, data)
            return place is not None

    def discard(self, path: str, version: str) -> None:
        with self._locked(path, version) as place:
            if place is not None:
                place.unlink()

    def list(self, prefix: str) -> list[FoundFile]:
        top = self.folder / prefix
        with explained(top, "list"):
            return sorted(_walk(top, prefix.rstrip("/")), key=lambda f: f.path)

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files, then the folders that this leaves empty."""
        folders: set[Path] = set()
        for path in paths:
            place = self.folder / path
            with explained(place, "remove"):
                place.unlink(missing_ok=True)
            folders.update(parent for parent in place.parents if self.folder in parent.parents)
        for folder in sorted(folders, key=lambda p: len(p.parts), reverse=True):
            with contextlib.suppress(OSError):  # it is not empty, or gone
                folder.rmdir()

    def upload(self, source: Path, path: str) -> None:
        with self.replacing(path) as temporary:
            shutil.copyfile(source, temporary)

    def download(self, path: str, target: Path) -> None:
        shutil.copyfile(self.folder / path, target)

    def copy(self, source: str, target: str) -> None:
        self.upload(self.folder / source, target)

    @contextlib.contextmanager
    def replacing(self, path: str) -> Iterator[Path]:
        """Yield a temporary path that replaces `path` at the end, unless there is an error."""
        target = self.folder / path
        with explained(target, "write"), durable.replacing(target) as temporary:
            yield temporary

    @contextlib.contextmanager
    def _locked(self, path: str, version: str) -> Iterator[Path | None]:
        """Yield the file, under the root's lock, if it has this version; else None."""
        place = self.folder / path
        with explained(place, "write"):
            place.parent.mkdir(parents=True, exist_ok=True)
            # One lock for the root: a lock file that is removed with its folder locks nothing.
            with FileLock(self.folder / LOCK):
                yield place if place.exists() and _version(place.read_bytes()) == version else None


@contextlib.contextmanager
def explained(path: Path, doing: str) -> Iterator[None]:
    """Turn an error of the system into a StoreError with the place and the remedy."""
    try:
        yield
    except UnderstudyError:
        raise
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "free disk space and run the same command again: what is finished is kept"
        elif e.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            remedy = "choose another run.root or change its permissions"
        elif e.errno == errno.ENAMETOOLONG:
            remedy = "choose a shorter run.name or run.root"
        else:
            remedy = "see whether run.root is a folder on a working disk"
        raise StoreError(f"cannot {doing} {path.absolute()}: {e.strerror or e}; {remedy}") from e


def _version(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _walk(top: Path, at: str) -> Iterator[FoundFile]:
    """Files below a folder; those that vanish meanwhile are left out."""
    try:
        entries = list(os.scandir(top))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        path = f"{at}/{entry.name}" if at else entry.name
        # People move a run or the objects to another disk and leave a link; deeper, a link may be circular.
        if entry.is_dir(follow_symlinks="/" not in at):
            yield from _walk(Path(entry.path), path)
            continue
        with contextlib.suppress(FileNotFoundError):
            stat = entry.stat()
            if entry.name != LOCK:
                yield FoundFile(path, stat.st_size, stat.st_mtime)
