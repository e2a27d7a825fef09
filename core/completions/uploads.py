"""Replies under a remote root: logs are uploaded in parts, and the parts of other machines are downloaded.

A part is `answers/<writer>/<offset>.jsonl`, whole lines of the writer's log from that byte on, and is never
changed. So the names show what is missing, an upload that happens twice counts once, and any process that has
the log may complete it.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from core.completions import append_log
from core.completions.append_log import SUFFIX, AppendLog
from core.completions.index import Piece, whole_end
from core.errors import PassingError, StoreError
from core.store.backend import Backend, Found
from core.store.disk import explained

log = logging.getLogger(__name__)

FOLDER, FORMATS = "answers", "formats"
PART_BYTES = 4 << 20
"""About the size of the largest part, small enough for a slow line within a request's time."""
LONE_S = 60.0
"""A log of a writer that cannot be judged from here is completed when it is this old."""
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Part:
    """A file of replies under the root: whose, from which byte of its log on, and how many."""

    writer: str
    start: int
    bytes: int
    path: str

    @property
    def end(self) -> int:
        """The byte of the log after its last."""
        return self.start + self.bytes


def parts(backend: Backend) -> list[Part]:
    """All files of replies under a root, in the order of writers and offsets.

    A whole log counts as a part from byte 0, so that a root may be copied from a disk to S3 or back.
    """
    found = (part for f in backend.list(FOLDER) if (part := _part(f)) is not None)
    return sorted(found, key=lambda p: (p.writer, p.start, -p.bytes))


def missing_here(there: Iterable[Part], local: Mapping[str, int], read: Callable[[str], int]) -> list[Part]:
    """The parts that no log on this machine (writer -> whole bytes), no part before them and not the
    index holds yet.
    """
    out = []
    ends = defaultdict(int, local)
    for part in there:
        if part.end > max(ends[part.writer], read(part.writer)):
            out.append(part)
        ends[part.writer] = max(ends[part.writer], part.end)
    return out


def copied(backend: Backend, wanted: Iterable[Part], folder: Path) -> Iterator[Piece]:
    """Yield the parts as local files in their order, downloaded where they have no copy yet."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from pool.map(lambda part: _copy(backend, part, folder), wanted)


def heal(backend: Backend, folder: Path, there: Iterable[Part]) -> None:
    """Upload what is missing of logs whose writers have ended.

    Completing a log whose writer lives after all would do no harm: the bytes are the same, and the
    writer continues behind them.
    """
    by_writer: dict[str, list[Part]] = defaultdict(list)
    for part in there:
        by_writer[part.writer].append(part)
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        missing = list(_gaps(by_writer[path.stem], whole_end(path)))
        if missing and _is_left(path):
            log.info("%s: uploading what its run could not", path)
            for start, end in missing:
                _upload(backend, path, start, end)


class Uploader:
    """Uploads what became durable in this process's logs, every few seconds and at the end."""

    def __init__(self, backend: Backend, interval: float) -> None:
        self.backend, self.interval = backend, interval
        self._safe: dict[str, tuple[Path, int]] = {}
        self._sent: dict[str, int] = {}
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._said = ""

    def grown(self, source: AppendLog) -> None:
        """Note that a log has grown; the first call starts the uploading thread."""
        self._safe[source.writer] = (source.path, source.end)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="journal mirror", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Upload the rest. Where that fails it is logged, and the next run on this machine that opens the
        root does it."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._push(last=True)

    def _work(self) -> None:
        while not self._ended.wait(self.interval):
            self._push()

    def _push(self, *, last: bool = False) -> None:
        for writer, (path, end) in list(self._safe.items()):
            try:
                self._sent[writer] = _upload(self.backend, path, self._sent.get(writer, 0), end)
                self._said = ""
            except (StoreError, PassingError) as e:
                if last or str(e) != self._said:
                    log.warning("%s: answers lie only on this machine so far, in %s", e, path)
                self._said = str(e)


def _upload(backend: Backend, path: Path, start: int, end: int) -> int:
    """Create parts for bytes `start` to `end` of a log, both at a line's beginning; returns `end`."""
    with explained(path, "read"), path.open("rb") as f:
        while start < end:
            f.seek(start)
            data = f.read(min(PART_BYTES, end - start))
            if start + len(data) < end:
                data = data[: data.rfind(b"\n") + 1] or data + f.readline()
            start += _create(backend, f"{FOLDER}/{path.stem}/{start:012d}{SUFFIX}", data, path)
    return end


def _create(backend: Backend, part: str, data: bytes, source: Path) -> int:
    """Create a part, or find that another upload of the same log was first; returns its size."""
    if backend.create(part, data):
        return len(data)
    found = backend.read(part)
    there = found.data if found is not None else b""
    if not there or there != _bytes(source, part, len(there)):
        raise StoreError(
            f"{backend.url}/{part} holds something else than {source}; move one of them away and run the "
            "same command again"
        )
    return len(there)


def _bytes(source: Path, part: str, count: int) -> bytes:
    with source.open("rb") as f:
        f.seek(int(Path(part).stem))
        return f.read(count)


def _part(found: Found) -> Part | None:
    names = found.path.removeprefix(f"{FOLDER}/").split("/")
    if names[0] == FORMATS or names[-1].startswith(".") or not names[-1].endswith(SUFFIX):
        return None
    stem = names[-1].removesuffix(SUFFIX)
    if len(names) == 1:
        return Part(stem, 0, found.bytes, found.path)
    return Part(names[0], int(stem), found.bytes, found.path) if len(names) == 2 and stem.isdigit() else None


def _copy(backend: Backend, part: Part, folder: Path) -> Piece:
    path = folder / part.writer / f"{part.start:012d}-{part.bytes}{SUFFIX}"
    if not path.is_file() or path.stat().st_size != part.bytes:
        with explained(path, "write"):
            path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            backend.download(part.path, temporary)
            if temporary.stat().st_size != part.bytes:
                raise PassingError(f"{backend.url}/{part.path} did not arrive whole; run the same again")
            temporary.replace(path)
        except FileNotFoundError as e:
            raise PassingError(
                f"{backend.url}/{part.path} vanished while it was read; run the same command again"
            ) from e
        finally:
            temporary.unlink(missing_ok=True)
    return Piece(part.writer, part.start, path)


def _gaps(there: Iterable[Part], end: int) -> Iterator[tuple[int, int]]:
    """What of bytes 0 to `end` no part holds; `there` is in the order of offsets."""
    at = 0
    for part in there:
        if part.start > at:
            yield at, min(part.start, end)
        at = max(at, part.end)
        if at >= end:
            return
    if at < end:
        yield at, end


def _is_left(path: Path) -> bool:
    found = append_log.state(path)
    return found == "finished" or (found == "unknown" and time.time() - path.stat().st_mtime > LONE_S)
