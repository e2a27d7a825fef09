"""What the store needs from the place of its root: whole files, conditional writes, listings.

All paths are relative to the root, with forward slashes. Every method raises StoreError with place and
remedy, or PassingError if trying again may help.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Found:
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

    def list(self, prefix: str) -> list[Found]:
        """Return all files below a folder, hidden ones included, sorted by path."""

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files; missing ones are ignored."""

    def upload(self, source: Path, path: str) -> None:
        """Copy a local file into the root."""

    def download(self, path: str, target: Path) -> None:
        """Copy a file to a local path. Raises FileNotFoundError if it does not exist."""

    def copy(self, source: str, target: str) -> None:
        """Copy within the root, atomically."""
