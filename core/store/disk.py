"""A root on a local disk: written beside the place, synced, renamed; versions compared under a lock."""

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

from filelock import FileLock

from core import files
from core.errors import StoreError
from core.store.backend import Content, Found

LOCK = ".lock"


@dataclass(frozen=True, slots=True)
class Disk:
    """The store's root as a folder."""

    folder: Path

    @property
    def url(self) -> str:
        """The folder's absolute path."""
        return str(self.folder)

    def check(self) -> None:
        """Write a file and remove it."""
        probe = f".probe-{uuid.uuid4().hex[:8]}"
        self.write(probe, b"probe\n")
        (self.folder / probe).unlink()

    def read(self, path: str) -> Content | None:
        """A small file with the digest of its bytes as version."""
        place = self.folder / path
        with explained(place, "read"):
            try:
                data = place.read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None
        return Content(data, _version(data))

    def write(self, path: str, data: bytes) -> None:
        """Temporary file, fsync, rename."""
        with explained(self.folder / path, "write"):
            files.replace_bytes(self.folder / path, data)

    def create(self, path: str, data: bytes) -> bool:
        """Temporary file, fsync, hard link, which fails where there is a file."""
        with explained(self.folder / path, "write"):
            return files.create_bytes(self.folder / path, data)

    def swap(self, path: str, data: bytes, version: str) -> bool:
        """Compare and write under the folder's lock."""
        with self._locked(path) as place:
            if not place.exists() or _version(place.read_bytes()) != version:
                return False
            files.replace_bytes(place, data)
            return True

    def discard(self, path: str, version: str) -> None:
        """Compare and remove under the folder's lock."""
        with self._locked(path) as place:
            if place.exists() and _version(place.read_bytes()) == version:
                place.unlink()

    def list(self, prefix: str) -> list[Found]:
        """Walk the folder; what vanishes meanwhile is left out."""
        top = self.folder / prefix
        with explained(top, "list"):
            return sorted(_walk(top, prefix.rstrip("/")), key=lambda f: f.path)

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files, then the folders that this leaves empty."""
        parents = set()
        for path in paths:
            place = self.folder / path
            with explained(place, "remove"):
                place.unlink(missing_ok=True)
            parents.add(place.parent)
        for parent in sorted(parents, key=lambda p: len(p.parts), reverse=True):
            self._prune(parent)

    def upload(self, source: Path, path: str) -> None:
        """Copy at once."""
        with self.replacing(path) as temporary:
            shutil.copyfile(source, temporary)

    def download(self, path: str, target: Path) -> None:
        """Copy the file out of the root."""
        shutil.copyfile(self.folder / path, target)

    def copy(self, source: str, target: str) -> None:
        """Copy at once."""
        self.upload(self.folder / source, target)

    @contextlib.contextmanager
    def replacing(self, path: str) -> Iterator[Path]:
        """A file beside `path` that takes its place at the end; on an error, nothing does."""
        target = self.folder / path
        with explained(target, "write"):
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{uuid.uuid4().hex[:8]}.tmp{target.suffix}")
            try:
                yield temporary
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _locked(self, path: str) -> Iterator[Path]:
        place = self.folder / path
        with explained(place, "write"):
            place.parent.mkdir(parents=True, exist_ok=True)
            # One lock for the root: a lock file that is removed with its folder locks nothing.
            with FileLock(self.folder / LOCK):
                yield place

    def _prune(self, folder: Path) -> None:
        while folder != self.folder and self.folder in folder.parents:
            try:
                folder.rmdir()
            except FileNotFoundError:
                pass
            except OSError:  # it is not empty
                return
            folder = folder.parent


@contextlib.contextmanager
def explained(path: Path, doing: str) -> Iterator[None]:
    """Turn the system's refusal into a sentence with the place and the remedy."""
    try:
        yield
    except StoreError:
        raise
    except OSError as e:
        raise StoreError(f"cannot {doing} {path.absolute()}: {e.strerror or e}; {_remedy(e)}") from e


def _remedy(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "make room and run the same command again: what is finished is kept"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "choose another run.root or change its rights"
    if error.errno == errno.ENAMETOOLONG:
        return "choose a shorter run.name or run.root"
    return "see whether run.root is a folder on a working disk"


def _version(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _walk(top: Path, at: str) -> Iterator[Found]:
    try:
        entries = list(os.scandir(top))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        path = f"{at}/{entry.name}" if at else entry.name
        # People move a run or the objects to another disk and leave a link; deeper, a link may go in circles.
        if entry.is_dir(follow_symlinks="/" not in at):
            yield from _walk(Path(entry.path), path)
            continue
        try:
            stat = entry.stat()
        except FileNotFoundError:
            continue
        if entry.name != LOCK:
            yield Found(path, stat.st_size, stat.st_mtime)
