"""A root on a local disk: files are written, synced and renamed; a lock guards versions."""

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
from core.errors import StoreError, UnderstudyError
from core.store.backend import Content, Found

LOCK = ".lock"


@dataclass(frozen=True, slots=True)
class Disk:
    """The store's root as a folder; the version of a file is the digest of its bytes."""

    folder: Path

    @property
    def url(self) -> str:
        return str(self.folder)

    def check(self) -> None:
        """Write a file and remove it."""
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
        """Temporary file, fsync, rename."""
        with explained(self.folder / path, "write"):
            files.replace_bytes(self.folder / path, data)

    def create(self, path: str, data: bytes) -> bool:
        """Temporary file, fsync, hard link, which fails if the file exists."""
        with explained(self.folder / path, "write"):
            return files.create_bytes(self.folder / path, data)

    def swap(self, path: str, data: bytes, version: str) -> bool:
        """Compare and write under the root's lock."""
        with self._locked(path) as place:
            if not place.exists() or _version(place.read_bytes()) != version:
                return False
            files.replace_bytes(place, data)
            return True

    def discard(self, path: str, version: str) -> None:
        """Compare and remove under the root's lock."""
        with self._locked(path) as place:
            if place.exists() and _version(place.read_bytes()) == version:
                place.unlink()

    def list(self, prefix: str) -> list[Found]:
        """Walk the folder; files that vanish meanwhile are left out."""
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
        with explained(target, "write"), files.replacing(target) as temporary:
            yield temporary

    @contextlib.contextmanager
    def _locked(self, path: str) -> Iterator[Path]:
        place = self.folder / path
        with explained(place, "write"):
            place.parent.mkdir(parents=True, exist_ok=True)
            # One lock for the root: a lock file that is removed with its folder locks nothing.
            with FileLock(self.folder / LOCK):
                yield place


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


def _walk(top: Path, at: str) -> Iterator[Found]:
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
        try:
            stat = entry.stat()
        except FileNotFoundError:
            continue
        if entry.name != LOCK:
            yield Found(path, stat.st_size, stat.st_mtime)
