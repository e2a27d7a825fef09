"""Files on a local disk: written beside their place, synced, and renamed into it."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from core.errors import StoreError


@contextlib.contextmanager
def explained(path: Path, doing: str) -> Iterator[None]:
    """Turn the system's refusal into a sentence with the place and the remedy."""
    try:
        yield
    except OSError as e:
        raise StoreError(f"cannot {doing} {path.absolute()}: {e.strerror or e}; {_remedy(e)}") from e


def _remedy(error: OSError) -> str:
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "make room and run the same command again: what is finished is kept"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "choose another run.root or change its rights"
    return "see whether run.root is a folder on a working disk"


def replace_bytes(path: Path, data: bytes) -> None:
    """Make `path` hold `data`, at once: a reader sees the old bytes or the new ones."""
    with explained(path, "write"):
        temporary = _temporary(path, data)
        temporary.replace(path)
        sync_folder(path.parent)


def create_bytes(path: Path, data: bytes) -> bool:
    """Make `path` hold `data` if there is no such file; False where another was first."""
    with explained(path, "write"):
        temporary = _temporary(path, data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        sync_folder(path.parent)
        return True


def sync_file(path: Path) -> None:
    """Wait until a file's bytes are on the disk."""
    with path.open("rb") as f:
        os.fsync(f.fileno())


def sync_folder(path: Path) -> None:
    """Wait until a folder's names are on the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _temporary(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return temporary
