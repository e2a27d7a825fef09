"""What the store asks of the place it lies in: whole files, conditional writes, listings.

All paths are relative to the root, with forward slashes. Every method raises StoreError, one
sentence with place and remedy, or PassingError where trying again may help.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Found:
    """A file in a listing. `modified` is seconds since 1970; `etag` where the place gives one."""

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
    """A root on a disk, on S3, or in memory."""

    @property
    def url(self) -> str:
        """The root as people write it."""

    @property
    def folder(self) -> Path | None:
        """The root as a local folder, None where it is none."""

    def check(self) -> None:
        """Find out whether the root can be written and keeps conditions, before any work."""

    def read(self, path: str) -> Content | None:
        """A small file, None where there is none."""

    def write(self, path: str, data: bytes) -> None:
        """Make `path` hold `data`, at once."""

    def create(self, path: str, data: bytes) -> bool:
        """As `write` if there is no such file; False where another's bytes are there."""

    def swap(self, path: str, data: bytes, version: str) -> bool:
        """As `write` if the file's version is `version`; False where it is another or gone.

        `data` must be unlike any other writer's, so that one's own success can be told from
        another's where the reply was lost.
        """

    def discard(self, path: str, version: str) -> None:
        """Remove a file if its version is `version`."""

    def list(self, prefix: str) -> list[Found]:
        """All files below a folder, hidden ones included, in the order of their paths."""

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files; those that are gone already do not matter."""

    def upload(self, source: Path, path: str) -> None:
        """Copy a local file to a place where nobody reads yet."""

    def download(self, path: str, target: Path) -> None:
        """Copy a file to a local path. Raises FileNotFoundError where there is none."""

    def copy(self, source: str, target: str) -> None:
        """Copy within the root, at once."""
