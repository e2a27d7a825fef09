"""Replies under a remote root: logs are uploaded in parts, and the parts of other machines are downloaded.

A part, `answers/<writer>/<offset>.jsonl`, is whole lines of a log from that byte on and is never changed, so
that an upload that happens twice counts once, and any process that has the log may complete it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from core.completions import append_log
from core.completions.append_log import SUFFIX, AppendLog, Piece, whole_end
from core.errors import PassingError, StoreError
from core.files import replacing
from core.store.backend import Backend, explained

log = logging.getLogger(__name__)

FOLDER, FORMATS = "answers", "formats"
PART_BYTES = 4 << 20
"""About the size of the largest part, small enough for a slow line within a request's time."""
LONE_S = 60.0
"""A log of a writer that cannot be judged from here is completed when it is this old."""


@dataclass(frozen=True, slots=True)
class UploadPart:
    """A file of replies under the root: whose, from which byte of its log on, and how many."""

    writer: str
    start: int
    bytes: int
    path: str

    @property
    def end(self) -> int:
        return self.start + self.bytes


def parts(backend: Backend) -> list[UploadPart]:
    """Return all files of replies under a root, in the order of writers and offsets.

    A whole log counts as a part from byte 0, so that a root may be copied from a disk to S3 or back.
    """
    out = []
    for found in backend.list(FOLDER):
        *folders, name = found.path.removeprefix(f"{FOLDER}/").split("/")
        stem = name.removesuffix(SUFFIX)
        if folders[:1] == [FORMATS] or name.startswith(".") or stem == name:
            continue
        if not folders:
            out.append(UploadPart(stem, 0, found.bytes, found.path))
        elif len(folders) == 1 and stem.isdigit():
            out.append(UploadPart(folders[0], int(stem), found.bytes, found.path))
    return sorted(out, key=lambda p: (p.writer, p.start, -p.bytes))


def download(backend: Backend, wanted: Iterable[UploadPart], folder: Path) -> Iterator[Piece]:
    """Yield the parts as local files in their order, downloaded unless they were before."""
    with ThreadPoolExecutor(8) as pool:
        yield from pool.map(lambda part: _local(backend, part, folder), wanted)


def upload_missing(backend: Backend, folder: Path, there: Iterable[UploadPart]) -> None:
    """Upload what is missing of logs whose writers have ended. If one still writes, this does no harm."""
    by_writer: dict[str, list[UploadPart]] = defaultdict(list)
    for part in there:
        by_writer[part.writer].append(part)
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        missing = list(_gaps(by_writer[path.stem], whole_end(path)))
        found = append_log.state(path) if missing else "growing"
        is_old = time.time() - path.stat().st_mtime > LONE_S
        if found == "finished" or (found == "unknown" and is_old):
            log.info("%s: uploading what its run could not", path)
            for start, end in missing:
                _upload(backend, path, start, end)


class Uploader:
    """Uploads what became durable in this process's logs, every few seconds and at the end."""

    def __init__(self, backend: Backend, interval: float) -> None:
        self.backend, self.interval = backend, interval
        self._durable: dict[str, tuple[Path, int]] = {}
        self._sent: dict[str, int] = {}
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._last_warning = ""

    def grown(self, source: AppendLog) -> None:
        """Note that a log has grown; the first call starts the uploading thread."""
        self._durable[source.writer] = (source.path, source.end)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="journal uploads", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Upload the rest. After a failure, the next run on this machine uploads what is missing."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._push(last=True)

    def _work(self) -> None:
        while not self._ended.wait(self.interval):
            self._push()

    def _push(self, *, last: bool = False) -> None:
        for writer, (path, end) in list(self._durable.items()):
            try:
                self._sent[writer] = _upload(self.backend, path, self._sent.get(writer, 0), end)
                self._last_warning = ""
            except (StoreError, PassingError) as e:
                if last or str(e) != self._last_warning:
                    log.warning("%s: answers lie only on this machine so far, in %s", e, path)
                self._last_warning = str(e)


def _upload(backend: Backend, path: Path, start: int, end: int) -> int:
    """Create parts for bytes `start` to `end` of a log, both at a line's beginning; return `end`."""
    with explained(path, "read"), path.open("rb") as f:
        while start < end:
            f.seek(start)
            data = f.read(min(PART_BYTES, end - start))
            if start + len(data) < end:
                data = data[: data.rfind(b"\n") + 1] or data + f.readline()
            part = f"{FOLDER}/{path.stem}/{start:012d}{SUFFIX}"
            if not backend.create(part, data):
                found = backend.read(part)
                there = found.data if found is not None else b""
                f.seek(start)
                if not there or there != f.read(len(there)):
                    raise StoreError(
                        f"{backend.url}/{part} does not have the content of {path}; move one of them away "
                        "and run the same command again"
                    )
                data = there
            start += len(data)
    return end


def _local(backend: Backend, part: UploadPart, folder: Path) -> Piece:
    path = folder / part.writer / f"{part.start:012d}-{part.bytes}{SUFFIX}"
    if not path.is_file() or path.stat().st_size != part.bytes:
        place = f"{backend.url}/{part.path}"
        with explained(path, "write"), replacing(path) as temporary:
            try:
                backend.download(part.path, temporary)
            except FileNotFoundError as e:
                raise PassingError(f"{place} vanished while it was read; run the same command again") from e
            if temporary.stat().st_size != part.bytes:
                raise PassingError(f"{place} was not received completely; run the same command again")
    return Piece(part.writer, part.start, path)


def _gaps(there: Iterable[UploadPart], end: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges of bytes 0 to `end` that no part contains; `there` is in the order of offsets."""
    at = 0
    for part in there:
        if at >= end:
            return
        if part.start > at:
            yield at, min(part.start, end)
        at = max(at, part.end)
    if at < end:
        yield at, end
