"""The manifest of an object: which files it has, and what decided them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core import jsonio


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of an object; `rows` where the file has rows, `etag` where the place gives one."""

    sha256: str
    bytes: int
    rows: int | None = None
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a stage left behind. It is written last, so that what it names exists."""

    stage: str
    key: str
    writer: str
    created_at: str
    files: Mapping[str, FileEntry]
    ingredients: Mapping[str, Any]
    """Everything the key was made of, flat, so that two manifests can be compared by name."""
    summary: Mapping[str, Any]
    """Counts and notices for people; not part of the digest."""

    @property
    def digest(self) -> str:
        """sha256 over the files' names and contents: what a later stage's key holds."""
        return jsonio.digest({name: entry.sha256 for name, entry in self.files.items()})

    @property
    def path(self) -> str:
        """Where the manifest lies under the root."""
        return manifest_path(self.stage, self.key)

    @property
    def folder(self) -> str:
        """Where the files lie under the root."""
        return f"objects/{self.stage}/{self.key}/{self.writer}"

    def to_json(self) -> dict[str, Any]:
        """The mapping that is written."""
        return {
            "stage": self.stage,
            "key": self.key,
            "writer": self.writer,
            "created_at": self.created_at,
            "digest": self.digest,
            "files": {name: _stated(entry) for name, entry in sorted(self.files.items())},
            "ingredients": dict(self.ingredients),
            "summary": dict(self.summary),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Manifest:
        """The manifest in a mapping. Raises KeyError or TypeError where it is not one."""
        return cls(
            stage=value["stage"],
            key=value["key"],
            writer=value["writer"],
            created_at=value["created_at"],
            files={name: FileEntry(**entry) for name, entry in value["files"].items()},
            ingredients=value["ingredients"],
            summary=value["summary"],
        )


def _stated(entry: FileEntry) -> dict[str, Any]:
    return {name: value for name, value in jsonio.as_row(entry).items() if value is not None}


def manifest_path(stage: str, key: str) -> str:
    """Where the manifest of a stage's key lies under the root."""
    return f"objects/{stage}/{key}.json"
