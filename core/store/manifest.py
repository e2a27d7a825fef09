"""The manifest of an object: which files it has, and what decided them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
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
        """The mapping that is written, with a checksum of itself."""
        value = {
            "stage": self.stage,
            "key": self.key,
            "writer": self.writer,
            "created_at": self.created_at,
            "digest": self.digest,
            "files": {name: _stated(entry) for name, entry in sorted(self.files.items())},
            "ingredients": dict(self.ingredients),
            "summary": dict(self.summary),
        }
        return {**value, _CHECKSUM: _checksum(value)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Manifest:
        """The manifest in a mapping; what a newer version may have added is left out.

        Raises KeyError, TypeError, AttributeError or ValueError where it is none or was altered.
        """
        # Manifests written before there was a checksum have none.
        if _CHECKSUM in value and value[_CHECKSUM] != _checksum(value):
            raise ValueError("it is not what its checksum says")
        manifest = cls(
            stage=value["stage"],
            key=value["key"],
            writer=value["writer"],
            created_at=value["created_at"],
            files={name: _entry(entry) for name, entry in value["files"].items()},
            ingredients=dict(value["ingredients"]),
            summary=dict(value["summary"]),
        )
        if value["digest"] != manifest.digest:
            raise ValueError("its files are not those its digest names")
        return manifest


_CHECKSUM = "checksum"


def _checksum(value: Mapping[str, Any]) -> str:
    """sha256 over all the rest, as JSON gives it back: there, a number that is a name is a string."""
    rest = {name: inner for name, inner in value.items() if name != _CHECKSUM}
    return jsonio.digest(json.loads(json.dumps(rest)))


_KNOWN = frozenset(f.name for f in fields(FileEntry))


def _entry(value: Mapping[str, Any]) -> FileEntry:
    return FileEntry(**{name: inner for name, inner in value.items() if name in _KNOWN})


def _stated(entry: FileEntry) -> dict[str, Any]:
    return {name: value for name, value in jsonio.as_row(entry).items() if value is not None}


def manifest_path(stage: str, key: str) -> str:
    """Where the manifest of a stage's key lies under the root."""
    return f"objects/{stage}/{key}.json"
