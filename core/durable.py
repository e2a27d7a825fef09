"""Files that survive a crash, and the failpoints at which tests kill the process.

A file or folder is complete or does not exist: it is written under a temporary name, synced, and renamed. A
failpoint is a named moment at which something has just become durable, or is about to. It does nothing by
itself; a test sets `on_failpoint` and kills the process at one of them (tests/killing).
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from core import locations

LEASE_TAKEN = "lease taken"
TEACHER_ASKED = "teacher asked"
ANSWER_APPENDED = "answer appended"
"""Passed with a live teacher only, so not in FAILPOINTS."""
FORWARD_SENT = "forward sent"
"""Passed with a remote engine only, between the two requests of a step, so not in FAILPOINTS."""
STEP_SUBMITTED = "step submitted"
STATE_SAVED = "state saved"
FILES_WRITTEN = "files written"
MANIFEST_WRITTEN = "manifest written"
VIEW_FILLED = "view filled"
RECORD_WRITTEN = "record written"
RUN_POINTER_SWAPPED = "run pointer swapped"
LATEST_POINTER_SWAPPED = "latest pointer swapped"

FAILPOINTS = (
    LEASE_TAKEN,
    TEACHER_ASKED,
    STEP_SUBMITTED,
    STATE_SAVED,
    FILES_WRITTEN,
    MANIFEST_WRITTEN,
    VIEW_FILLED,
    RECORD_WRITTEN,
    RUN_POINTER_SWAPPED,
    LATEST_POINTER_SWAPPED,
)
"""The failpoints that every run passes."""

on_failpoint: Callable[[str, str], None] | None = None
"""Called with the name of a failpoint and what it is about."""


def failpoint(name: str, about: str = "") -> None:
    """Pass one of the failpoints above."""
    if on_failpoint is not None:
        on_failpoint(name, about)


def user_cache() -> Path:
    """Return the folder of copies and converted models: $UNDERSTUDY_CACHE, else ~/.cache/understudy.

    Raises UserError if that variable is a URL or a misspelled path.
    """
    if named := os.environ.get("UNDERSTUDY_CACHE"):
        return locations.absolute(named, "UNDERSTUDY_CACHE", creates=True)
    return Path.home() / ".cache" / "understudy"


def replace_bytes(path: Path, data: bytes) -> None:
    """Replace the content of `path` atomically and durably. Raises OSError."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)
        sync([temporary])
    sync([path.parent])


def create_bytes(path: Path, data: bytes) -> bool:
    """Create `path` with `data`, durably; return False if it already exists. Raises OSError."""
    with _temporary(path) as temporary:
        temporary.write_bytes(data)
        sync([temporary])
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
    sync([path.parent])
    return True


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` when the block ends without an error."""
    with _temporary(path) as temporary:
        yield temporary
        temporary.replace(path)


@contextmanager
def whole_folder(final: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `final`, or is removed if the block ends with an error.

    The caller holds a lock on `final`, so that what a killed writer left can be removed.
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
    """Wait until the bytes of files, or the names in folders, are on the disk."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex[:8]}.tmp{path.suffix}")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
