"""Files of the store on a local disk, and the sentence for each way in which a disk refuses."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from core import files
from core.errors import StoreError


@contextlib.contextmanager
def explained(path: Path, doing: str) -> Iterator[None]:
    """Turn the system's refusal into a sentence with the place and the remedy."""
    try:
        yield
    except OSError as e:
        raise StoreError(f"cannot {doing} {path.absolute()}: {e.strerror or e}; {_remedy(e)}") from e


def _remedy(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "make room and run the same command again: what is finished is kept"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "choose another run.root or change its rights"
    return "see whether run.root is a folder on a working disk"


def replace_bytes(path: Path, data: bytes) -> None:
    """Make `path` hold `data`, at once. Raises StoreError."""
    with explained(path, "write"):
        files.replace_bytes(path, data)


def create_bytes(path: Path, data: bytes) -> bool:
    """Make `path` hold `data` if there is no such file; False where another was first."""
    with explained(path, "write"):
        return files.create_bytes(path, data)
