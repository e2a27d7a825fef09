"""Immutable objects: a writer's own folder of files, and a manifest that is created last."""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import files, jsonio
from core.errors import StoreError, UserError
from core.store import local
from core.store.manifest import FileEntry, Manifest, manifest_path

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Store:
    """The artifact store under one root (a local folder in this version)."""

    root: Path

    @classmethod
    def at(cls, root: str) -> Store:
        """The store at `root`, for reading. Raises UserError for what is no local folder."""
        if "://" in root and not root.startswith("file://"):
            raise UserError(f"run.root: {root} is not a local folder; S3 and others come in a later version")
        return cls(Path(root.removeprefix("file://")).absolute())

    @classmethod
    def open(cls, root: str) -> Store:
        """As `at`, for writing: a folder that cannot be written is found here, before any work."""
        store = cls.at(root)
        probe = store.root / f".probe-{uuid.uuid4().hex[:8]}"
        local.replace_bytes(probe, b"probe\n")
        probe.unlink()
        return store

    def find(self, stage: str, key: str) -> Manifest | None:
        """The manifest of a key, None where nothing was made or it cannot be read."""
        path = self.root / manifest_path(stage, key)
        try:
            return Manifest.from_json(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as e:
            log.warning("%s is damaged (%s); the stage is made again", path, e)
            return None

    def folder(self, manifest: Manifest) -> Path:
        """The local folder with an object's files."""
        return self.root / manifest.folder

    def problems(self, manifest: Manifest) -> list[str]:
        """What is wrong with an object's files: missing, another size, another digest."""
        out = []
        for name, entry in manifest.files.items():
            path = self.folder(manifest) / name
            if not path.is_file():
                out.append(f"{name} is missing")
            elif path.stat().st_size != entry.bytes:
                out.append(f"{name} has {path.stat().st_size} bytes instead of {entry.bytes}")
            elif jsonio.file_digest(path) != entry.sha256:
                out.append(f"{name} was altered")
        return out

    def sound(self, stage: str, key: str) -> Manifest | None:
        """The manifest of a key whose files all hold; what does not is named in the log."""
        manifest = self.find(stage, key)
        if manifest is None:
            return None
        problems = self.problems(manifest)
        if problems:
            log.warning("%s %s: %s; it is made again", stage, key[:12], "; ".join(problems))
            return None
        return manifest

    def begin(self, stage: str, key: str) -> Path:
        """A new writer's folder for one object."""
        folder = self.root / "objects" / stage / key / f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        with local.explained(folder, "create"):
            folder.mkdir(parents=True)
        return folder

    def abandon(self, folder: Path) -> None:
        """Remove what a writer that failed left behind."""
        shutil.rmtree(folder, ignore_errors=True)

    def commit(
        self,
        stage: str,
        key: str,
        folder: Path,
        ingredients: Mapping[str, Any],
        summary: Mapping[str, Any],
        *,
        replace: bool = False,
    ) -> Manifest:
        """Sync the files, then create the manifest; where another writer was first, adopt theirs.

        A manifest whose files do not hold is replaced, and with `replace` any.
        """
        with local.explained(folder, "write"):
            entries = {name: _entry(folder / name) for name in _names(folder)}
        manifest = Manifest(stage, key, folder.name, now(), entries, ingredients, summary)
        data = (json.dumps(manifest.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
        path = self.root / manifest.path
        if local.create_bytes(path, data):
            return manifest
        other = self.find(stage, key)
        if other is not None and not replace and not self.problems(other):
            self.abandon(folder)
            return other
        local.replace_bytes(path, data)
        return manifest

    def read_json(self, relative: str) -> Any | None:
        """A JSON file under the root, None where there is none."""
        path = self.root / relative
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as e:
            raise StoreError(f"{path} is not JSON ({e}); remove it and run the same command again") from e


def now() -> str:
    """The time, in UTC, to the second, as it is written everywhere."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def _names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def _entry(path: Path) -> FileEntry:
    files.sync([path])
    rows = None
    if path.suffix == ".jsonl":
        with path.open("rb") as f:
            rows = sum(1 for _ in f)
    return FileEntry(jsonio.file_digest(path), path.stat().st_size, rows)
