"""Files that a reader, or a crash, sees whole or not at all: written beside their place, synced, renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from core import locations


def user_cache() -> Path:
    """Where copies and converted models are kept: $UNDERSTUDY_CACHE, else ~/.cache/understudy.

    Raises UserError where that variable holds a URL or a misspelled path.
    """
    named = os.environ.get("UNDERSTUDY_CACHE")
    if not named:
        return Path.home() / ".cache" / "understudy"
    return locations.absolute(named, "UNDERSTUDY_CACHE", creates=True)


def replace_bytes(path: Path, data: bytes) -> None:
    """Make `path` hold `data`, at once: a reader sees the old bytes or the new ones. Raises OSError."""
    temporary = _temporary(path, data)
    temporary.replace(path)
    sync([path.parent])


def create_bytes(path: Path, data: bytes) -> bool:
    """Make `path` hold `data` if there is no such file; False where another was first. Raises OSError."""
    temporary = _temporary(path, data)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    sync([path.parent])
    return True


@contextmanager
def whole_folder(final: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `final` when the block ends well, and vanishes otherwise.

    The caller holds a lock on `final`, so what a killed writer left beside it may be swept away.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    for left in final.parent.glob(f".part-{final.name}-*"):
        shutil.rmtree(left, ignore_errors=True)
    part = Path(tempfile.mkdtemp(dir=final.parent, prefix=f".part-{final.name}-"))
    try:
        yield part
        sync([*part.rglob("*"), part])
        part.rename(final)
        sync([final.parent])
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def sync(paths: Iterable[Path]) -> None:
    """Wait until files' bytes, or folders' names, are on the disk."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


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
