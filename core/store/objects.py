"""Immutable objects: a folder of files per writer, and a manifest that is created last.

The manifest has the digests of the files and everything that decided them, so that what it names exists.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from core import durable, jsonio, locations
from core.errors import StoreError, UserError
from core.jsonio import InvalidFile, Record, now
from core.store import leases
from core.store.backend import Backend, Disk, explained
from core.store.leases import TERMS, LeaseTerms, writer_id

log = logging.getLogger(__name__)
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


@dataclass(frozen=True, slots=True)
class Store:
    """The artifact store under one root: a folder, or s3://bucket/prefix."""

    backend: Backend
    copies: Copies
    terms: LeaseTerms = TERMS

    @classmethod
    def at(cls, root: str) -> Store:
        """The store at `root`, for reading. Raises UserError for a URL that cannot be a root."""
        setting = "run.root"
        scheme = locations.scheme(locations.normalized(root, setting, creates=True))
        if scheme == "s3":
            from core.store.s3 import S3

            backend: Backend = S3(locations.object_url(root, setting))
        elif scheme:
            raise UserError(
                f"{setting}: {root}: only folders and s3:// support the conditional writes that two runs at "
                "once need; name one of these (many services speak S3: set AWS_ENDPOINT_URL)"
            )
        else:
            backend = Disk(locations.absolute(root, setting, creates=True))
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
        """Return the manifest of a key; None if there is none or it cannot be read."""
        return self._find(manifest_path(stage, key))[0]

    def sound(self, stage: str, key: str) -> Manifest | None:
        """Return the manifest of a key if all its files are intact; otherwise the log names what is not."""
        manifest = self.find(stage, key)
        if manifest is None:
            return None
        problems = self.problems(manifest)
        if problems:
            log.warning("%s %s: %s; the stage is repeated", stage, key[:12], "; ".join(problems))
            return None
        return manifest

    def problems(self, manifest: Manifest) -> list[str]:
        """What is wrong with an object's files: missing, another size, other bytes.

        On a disk every byte is read. On S3 a file counts as unchanged while it has the ETag that it got when
        it was written; otherwise it is downloaded and read.
        """
        listing = {f.path: f for f in self.backend.list(manifest.folder)}
        out = []
        for name, entry in manifest.files.items():
            found = listing.get(f"{manifest.folder}/{name}")
            if found is None:
                out.append(f"{name} is missing")
            elif found.bytes != entry.bytes:
                out.append(f"{name} has {found.bytes} bytes instead of {entry.bytes}")
            elif self.backend.folder is None:
                kept = found.etag is not None and found.etag == entry.etag
                if not kept and not self.copies.verify(manifest, name):
                    out.append(f"{name} was altered")
            else:
                with explained(path := self.file(manifest, name), "read"):
                    if jsonio.file_digest(path) != entry.sha256:
                        out.append(f"{name} was altered")
        return out

    def folder(self, manifest: Manifest) -> Path:
        """A local folder with all files of an object; copies of them if the root is remote."""
        if self.backend.folder is not None:
            return self.backend.folder / manifest.folder
        for name in manifest.files:
            self.copies.file(manifest, name)
        return self.copies.folder / manifest.folder

    def file(self, manifest: Manifest, name: str) -> Path:
        """A local path of one file of an object."""
        if self.backend.folder is not None:
            return self.backend.folder / manifest.folder / name
        return self.copies.file(manifest, name)

    @contextlib.contextmanager
    def lease(self, name: str, what: str) -> Iterator[None]:
        """Hold a lease while something is built, waiting for another holder; `what` is for log messages."""
        with leases.held(self.backend, name, what, self.terms):
            yield

    def begin(self, stage: str, key: str) -> Path:
        """Create a local folder for the files of one writer of an object."""
        relative = f"objects/{stage}/{key}/{writer_id()}"
        folder = (self.backend.folder or self.copies.folder) / relative
        with explained(folder, "create"):
            folder.mkdir(parents=True)
        return folder

    def abandon(self, folder: Path) -> None:
        """Remove what a failed writer left behind."""
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
        """Sync or upload the files, then create the manifest; if another writer was first, adopt theirs.

        A manifest whose files are not intact is replaced, and with `replace` any.
        """
        try:
            with explained(folder, "write"):
                names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
                entries = {name: _entry(folder / name) for name in names}
                durable.sync([p for p in folder.rglob("*") if p.is_dir()])
                durable.sync([folder, folder.parent])
            manifest = Manifest(
                stage=stage,
                key=key,
                writer=folder.name,
                created_at=now(),
                files=entries,
                ingredients=dict(ingredients),
                summary=dict(summary),
            )
            if self.backend.folder is None:
                manifest = self._uploaded(manifest, folder)
        except BaseException:  # a signal, too: no manifest names the folder yet
            self.abandon(folder)
            raise
        durable.failpoint(durable.FILES_WRITTEN, f"{stage}/{key}")
        kept = self._create(manifest, replace=replace)
        if kept is not manifest:
            self.abandon(folder)
            if self.backend.folder is None:
                self.backend.remove(f"{manifest.folder}/{name}" for name in manifest.files)
        durable.failpoint(durable.MANIFEST_WRITTEN, f"{stage}/{key}")
        return kept

    def read_json(self, relative: str) -> Any | None:
        """Return the value of a JSON file under the root; None if it does not exist."""
        found = self.backend.read(relative)
        if found is None:
            return None
        try:
            return json.loads(found.data)
        except ValueError as e:
            raise StoreError(
                f"{self.where(relative)} is not JSON ({e}); remove it and run the same command again"
            ) from e

    def _find(self, path: str) -> tuple[Manifest | None, str | None]:
        """The manifest at a path, and the version of the file there, readable or not."""
        found = self.backend.read(path)
        if found is None:
            return None, None
        try:
            manifest = Manifest.from_json(json.loads(found.data), self.where(path))
            if manifest.path != path:
                raise InvalidFile(f"{self.where(path)}: it belongs to {manifest.path}")
            return manifest, found.version
        except ValueError as e:
            log.warning("damaged manifest, the stage is repeated: %s", e)
            return None, found.version

    def _create(self, manifest: Manifest, *, replace: bool) -> Manifest:
        """Create the manifest, adopt an intact one, or swap it for one that is not."""
        data = jsonio.indented(manifest.to_json(), 1).encode()
        while not self.backend.create(manifest.path, data):
            other, version = self._find(manifest.path)
            if other is not None and not replace and not self.problems(other):
                return other
            if version is not None and self.backend.swap(manifest.path, data, version):
                break
        return manifest

    def _uploaded(self, manifest: Manifest, folder: Path) -> Manifest:
        """Upload the files, check that all arrived, and add their ETags to the manifest."""
        for name in manifest.files:
            self.backend.upload(folder / name, f"{manifest.folder}/{name}")
        listing = {f.path: f for f in self.backend.list(manifest.folder)}
        entries = {}
        for name, entry in manifest.files.items():
            found = listing.get(f"{manifest.folder}/{name}")
            if found is None or found.bytes != entry.bytes:
                raise StoreError(
                    f"{self.where(manifest.folder)}/{name} was not uploaded completely; "
                    "run the same command again: what is finished is kept"
                )
            entries[name] = entry.model_copy(update={"etag": found.etag})
        self.copies.trust(folder / name for name in entries)
        return manifest.model_copy(update={"files": entries})


@dataclass(frozen=True, slots=True)
class Copies:
    """Local copies of a remote root's objects, in the user's cache, verified once per process."""

    backend: Backend
    folder: Path
    _verified: set[Path] = field(default_factory=set)

    @classmethod
    def of(cls, backend: Backend) -> Copies:
        """Return the copies in the user's cache."""
        root = hashlib.sha256(backend.url.encode()).hexdigest()[:16]
        return cls(backend, durable.user_cache() / "objects" / root)

    def file(self, manifest: Manifest, name: str) -> Path:
        """Return a file of an object, downloaded unless there is an intact copy.

        Raises StoreError if the download does not match the manifest.
        """
        relative, entry = f"{manifest.folder}/{name}", manifest.files[name]
        path = self.folder / relative
        if path in self._verified and path.is_file():
            return path
        with explained(path, "read"):
            intact = _matches(path, entry)
        if not intact:
            with explained(path, "write"):
                path.parent.mkdir(parents=True, exist_ok=True)
            with durable.replacing(path) as temporary:
                self.backend.download(relative, temporary)
                if not _matches(temporary, entry):
                    raise StoreError(
                        f"{self.backend.url}/{relative} does not match its manifest; "
                        "run the same command again: the stage is repeated"
                    )
        self._verified.add(path)
        return path

    def verify(self, manifest: Manifest, name: str) -> bool:
        """Download a file again; return whether its bytes match the manifest."""
        path = self.folder / manifest.folder / name
        path.unlink(missing_ok=True)
        self._verified.discard(path)
        try:
            self.file(manifest, name)
        except (StoreError, FileNotFoundError):
            return False
        return True

    def trust(self, paths: Iterable[Path]) -> None:
        """Mark copies as verified that this process has just written."""
        self._verified.update(paths)

    def sweep(self, kept: set[str], grace: float) -> None:
        """Remove copies older than `grace` seconds whose folder under the root is not in `kept`."""
        for folder in self.folder.glob("objects/*/*/*"):
            stale = time.time() - folder.stat().st_mtime > grace
            if stale and folder.relative_to(self.folder).as_posix() not in kept:
                shutil.rmtree(folder, ignore_errors=True)


def _entry(path: Path) -> FileEntry:
    durable.sync([path])
    rows = None
    if path.suffix == ".jsonl":
        with path.open("rb") as f:
            rows = sum(1 for _ in f)
    return FileEntry(sha256=jsonio.file_digest(path), bytes=path.stat().st_size, rows=rows)


def _matches(path: Path, entry: FileEntry) -> bool:
    return path.is_file() and path.stat().st_size == entry.bytes and jsonio.file_digest(path) == entry.sha256


def _checksum(value: Mapping[str, Any]) -> str:
    """sha256 over everything else, as JSON returns it: there, a number that is a name is a string."""
    rest = {name: inner for name, inner in value.items() if name != _CHECKSUM}
    return jsonio.digest(json.loads(json.dumps(rest)))
