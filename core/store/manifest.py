"""The manifest of an object: which files it has, and what decided them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Self

from core import jsonio
from core.jsonio import InvalidFile, Record

_CHECKSUM = "checksum"


class FileEntry(Record):
    """One file of an object; `rows` of JSON lines, `etag` on S3."""

    sha256: str
    bytes: int
    rows: int | None = None
    etag: str | None = None


class Manifest(Record):
    """The content of an object. It is written last, so that what it names exists."""

    stage: str
    key: str
    writer: str
    created_at: str
    files: dict[str, FileEntry]
    ingredients: dict[str, Any]
    """Everything the key is a digest of, flat, so that two manifests can be compared by name."""
    summary: dict[str, Any]
    """Counts and notices for people; not part of the digest."""

    @property
    def digest(self) -> str:
        """sha256 over the files' names and contents, as it is part of a later stage's key."""
        return jsonio.digest({name: entry.sha256 for name, entry in self.files.items()})

    @property
    def path(self) -> str:
        """The place of the manifest under the root."""
        return manifest_path(self.stage, self.key)

    @property
    def folder(self) -> str:
        """The place of the files under the root."""
        return f"objects/{self.stage}/{self.key}/{self.writer}"

    def to_json(self) -> dict[str, Any]:
        """The JSON object that is written, with its own checksum."""
        value = {
            "stage": self.stage,
            "key": self.key,
            "writer": self.writer,
            "created_at": self.created_at,
            "digest": self.digest,
            "files": {name: e.model_dump(exclude_none=True) for name, e in sorted(self.files.items())},
            "ingredients": self.ingredients,
            "summary": self.summary,
        }
        return {**value, _CHECKSUM: _checksum(value)}

    @classmethod
    def from_json(cls, value: Any, place: str) -> Self:
        """The manifest in a JSON value. Raises InvalidFile if it is not one or was altered."""
        manifest = super().from_json(value, place)
        # Version 0.1 wrote manifests without a checksum.
        if _CHECKSUM in value and value[_CHECKSUM] != _checksum(value):
            raise InvalidFile(f"{place}: its content does not match its checksum")
        if value.get("digest") != manifest.digest:
            raise InvalidFile(f"{place}: its files do not match its digest")
        return manifest


def manifest_path(stage: str, key: str) -> str:
    """The place of the manifest of a key under the root."""
    return f"objects/{stage}/{key}.json"


def _checksum(value: Mapping[str, Any]) -> str:
    """sha256 over everything else, as JSON returns it: there, a number that is a name is a string."""
    rest = {name: inner for name, inner in value.items() if name != _CHECKSUM}
    return jsonio.digest(json.loads(json.dumps(rest)))
