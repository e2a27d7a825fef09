"""Immutable objects: a writer's own folder of files, and a manifest that is created last."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import failpoints, files, jsonio
from core.errors import StoreError
from core.jsonio import now
from core.store import leases
from core.store.backend import Backend
from core.store.copies import Copies
from core.store.disk import explained
from core.store.leases import TERMS, Terms, writer_id
from core.store.manifest import FileEntry, Manifest, manifest_path
from core.store.roots import backend_at

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Store:
    """The artifact store under one root: a folder, s3://, or memory:// in tests."""

    backend: Backend
    copies: Copies
    terms: Terms = TERMS

    @classmethod
    def at(cls, root: str) -> Store:
        """The store at `root`, for reading. Raises UserError for a URL that cannot be a root."""
        backend = backend_at(root)
        return cls(backend, Copies.of(backend))

    @classmethod
    def open(cls, root: str) -> Store:
        """As `at`, for writing. Raises StoreError for a root that cannot be written, before any work."""
        store = cls.at(root)
        store.backend.check()
        return store

    def where(self, relative: str) -> str:
        """A path under the root as people write it."""
        return f"{self.backend.url}/{relative}"

    def find(self, stage: str, key: str) -> Manifest | None:
        """The manifest of a key, None where nothing was made or it cannot be read."""
        return self._found(manifest_path(stage, key))[0]

    def folder(self, manifest: Manifest) -> Path:
        """A local folder with all files of an object; of a remote root, with copies of them."""
        if self.backend.folder is not None:
            return self.backend.folder / manifest.folder
        for name in manifest.files:
            self.copies.file(manifest, name)
        return self.copies.place(manifest.folder)

    def file(self, manifest: Manifest, name: str) -> Path:
        """A local path of one file of an object."""
        if self.backend.folder is not None:
            return self.backend.folder / manifest.folder / name
        return self.copies.file(manifest, name)

    def problems(self, manifest: Manifest) -> list[str]:
        """What is wrong with an object's files: missing, another size, other bytes.

        On a disk every byte is read; elsewhere a file counts as unchanged while its ETag is the one
        it was written with, and is fetched and read where that differs.
        """
        there = {f.path: f for f in self.backend.list(manifest.folder)}
        out = []
        for name, entry in manifest.files.items():
            found = there.get(f"{manifest.folder}/{name}")
            if found is None:
                out.append(f"{name} is missing")
            elif found.bytes != entry.bytes:
                out.append(f"{name} has {found.bytes} bytes instead of {entry.bytes}")
            elif not self._same_bytes(manifest, name, found.etag):
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

    @contextlib.contextmanager
    def lease(self, name: str, what: str) -> Iterator[None]:
        """Hold a lease while something is made; waits for whoever holds it."""
        with leases.held(self.backend, name, what, self.terms):
            yield

    def begin(self, stage: str, key: str) -> Path:
        """A new local folder for the files of one writer of an object."""
        relative = f"objects/{stage}/{key}/{writer_id()}"
        root = self.backend.folder
        folder = root / relative if root is not None else self.copies.place(relative)
        with explained(folder, "create"):
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
        """Make the files safe, then create the manifest; where another writer was first, adopt theirs.

        A manifest whose files do not hold is replaced, and with `replace` any.
        """
        with explained(folder, "write"):
            entries = {name: _entry(folder / name) for name in _names(folder)}
            files.sync([p for p in folder.rglob("*") if p.is_dir()])
            files.sync([folder, folder.parent])
        manifest = Manifest(stage, key, folder.name, now(), entries, ingredients, summary)
        if self.backend.folder is None:
            manifest = self._uploaded(manifest, folder)
        failpoints.hit(failpoints.FILES_WRITTEN, f"{stage}/{key}")
        kept = self._create(manifest, replaces=replace)
        if kept is not manifest:
            self.abandon(folder)
            if self.backend.folder is None:
                self.backend.remove(f"{manifest.folder}/{name}" for name in manifest.files)
        failpoints.hit(failpoints.MANIFEST_WRITTEN, f"{stage}/{key}")
        return kept

    def read_json(self, relative: str) -> Any | None:
        """A JSON file under the root, None where there is none."""
        found = self.backend.read(relative)
        if found is None:
            return None
        try:
            return json.loads(found.data)
        except ValueError as e:
            raise StoreError(
                f"{self.where(relative)} is not JSON ({e}); remove it and run the same command again"
            ) from e

    def _create(self, manifest: Manifest, *, replaces: bool) -> Manifest:
        """Create the manifest, adopt a sound one, or swap it for one that does not hold."""
        data = (json.dumps(manifest.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
        while not self.backend.create(manifest.path, data):
            other, version = self._found(manifest.path)
            if other is not None and not replaces and not self.problems(other):
                return other
            if version is not None and self.backend.swap(manifest.path, data, version):
                break
        return manifest

    def _found(self, path: str) -> tuple[Manifest | None, str | None]:
        """The manifest at a path, and the version of whatever is there."""
        found = self.backend.read(path)
        if found is None:
            return None, None
        try:
            manifest = Manifest.from_json(json.loads(found.data))
            if manifest.path != path:
                raise ValueError(f"it is that of {manifest.path}")
            return manifest, found.version
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            log.warning("%s is damaged (%s); the stage is made again", self.where(path), e)
            return None, found.version

    def _same_bytes(self, manifest: Manifest, name: str, etag: str | None) -> bool:
        entry = manifest.files[name]
        if self.backend.folder is not None:
            path = self.file(manifest, name)
            with explained(path, "read"):
                return jsonio.file_digest(path) == entry.sha256
        if etag is not None and etag == entry.etag:
            return True
        return self.copies.holds(manifest, name)

    def _uploaded(self, manifest: Manifest, folder: Path) -> Manifest:
        """Send the files, look that all arrived, and note the ETags they got."""
        for name in manifest.files:
            self.backend.upload(folder / name, f"{manifest.folder}/{name}")
        there = {f.path: f for f in self.backend.list(manifest.folder)}
        entries = {}
        for name, entry in manifest.files.items():
            found = there.get(f"{manifest.folder}/{name}")
            if found is None or found.bytes != entry.bytes:
                raise StoreError(
                    f"{self.where(manifest.folder)}/{name} did not arrive whole; "
                    "run the same command again: what is finished is kept"
                )
            entries[name] = dataclasses.replace(entry, etag=found.etag)
        self.copies.trust(folder / name for name in entries)
        return dataclasses.replace(manifest, files=entries)


def _names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def _entry(path: Path) -> FileEntry:
    files.sync([path])
    rows = None
    if path.suffix == ".jsonl":
        with path.open("rb") as f:
            rows = sum(1 for _ in f)
    return FileEntry(jsonio.file_digest(path), path.stat().st_size, rows)
