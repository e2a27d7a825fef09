"""Files of replies: an append-only log for each writer, whose lines are made durable together.

Under a remote root, logs are uploaded in parts, and the parts of other machines are downloaded. A part,
`answers/<writer>/<offset>.jsonl`, is whole lines of a log from that byte on and is never changed, so that an
upload that happens twice counts once, and any process that has the log may complete it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

from core import durable
from core.completions.chat import Reply, encode_reply
from core.durable import replacing
from core.errors import PassingError, StoreError
from core.store import Backend, explained
from core.store.leases import is_dead, this_process, writer_id

log = logging.getLogger(__name__)

FOLDER, FORMATS, SUFFIX = "answers", "formats", ".jsonl"
PART_BYTES = 4 << 20
"""About the size of the largest part, small enough for a slow line within a request's time."""
LONE_S = 60.0
"""A log of a writer that cannot be judged from here is completed when it is this old."""
IDLE_S, GATHER_S = 0.1, 0.005
"""After this long without a line, the next is written at once; otherwise lines wait this long for others."""
_BLOCK = 65536

_open_writers: set[str] = set()
"""Logs that this process is writing: its process id alone does not distinguish them from closed ones."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A local file with what one writer wrote from byte `start` of its log on."""

    writer: str
    start: int
    path: Path


class AppendLog:
    """A file that this process appends to. `end` is the number of bytes that are durable."""

    def __init__(self, folder: Path, writer: str, run: str) -> None:
        """Create a file whose first line names its writer. Raises OSError."""
        header = {"holder": this_process(), "run": run, "version": 1}
        self._header = json.dumps(header).encode() + b"\n"
        self.writer, self.path, self.end = writer, folder / f"{writer}{SUFFIX}", 0
        folder.mkdir(parents=True, exist_ok=True)
        _open_writers.add(writer)
        self._handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)

    def append(self, lines: Sequence[bytes]) -> list[int]:
        """Write lines, wait until they are durable, and return the offset of each. Raises OSError.

        After a failure the file is cut back to what was durable before, and closed: what a disk has kept
        after a failed fsync is unknown (Rebello et al. 2020, "Can Applications Recover from fsync
        Failures?").
        """
        start = self.end or len(self._header)
        data = b"".join(lines) if self.end else self._header + b"".join(lines)
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(self._handle, left) :]
            os.fsync(self._handle)
            if not self.end:
                durable.sync([self.path.parent, self.path.parent.parent])
        except OSError:
            with contextlib.suppress(OSError):
                if self.end:
                    os.ftruncate(self._handle, self.end)
                else:
                    self.path.unlink()
            self.close()
            raise
        self.end += len(data)
        return list(itertools.accumulate(map(len, lines[:-1]), initial=start))

    def close(self) -> None:
        os.close(self._handle)
        _open_writers.discard(self.writer)


def writer_state(path: Path) -> Literal["growing", "finished", "unknown"]:
    """Return whether a log's writer still writes, as far as this machine can know."""
    with explained(path, "read"), path.open("rb") as f:
        line = f.readline()
    try:
        holder: dict[str, Any] = json.loads(line)["holder"]
        if holder == this_process():
            return "growing" if path.stem in _open_writers else "finished"
        if is_dead(holder):
            return "finished"
        return "growing" if holder["machine"] == this_process()["machine"] else "unknown"
    except (ValueError, KeyError, TypeError):
        return "unknown"


def whole_end(path: Path) -> int:
    """Return where the last complete line ends, in bytes."""
    with path.open("rb") as f:
        end = f.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - _BLOCK)
            f.seek(start)
            if (at := f.read(end - start).rfind(b"\n")) >= 0:
                return start + at + 1
            end = start
    return 0


class _Waiting(NamedTuple):
    line: bytes
    reply: Reply
    done: asyncio.Future[None]


class GroupCommit:
    """Makes replies from any event loop durable together.

    The thread starts with the first reply. After a failed write the next one goes to a new log. `on_durable`
    is called with offsets and replies that have just become durable, before their writers continue.
    """

    def __init__(
        self, folder: Path, run: str, on_durable: Callable[[AppendLog, Sequence[tuple[int, Reply]]], None]
    ) -> None:
        self.folder, self.run, self._on_durable = folder, run, on_durable
        self.writers: set[str] = set()
        """Names of the logs of this object, each added before its file exists."""
        self._waiting: list[_Waiting] = []
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread: threading.Thread | None = None
        self._log: AppendLog | None = None

    async def write(self, reply: Reply) -> None:
        """Return when the reply is durable; even a canceled caller's is written. Raises StoreError."""
        waiting = _Waiting(encode_reply(reply), reply, asyncio.get_running_loop().create_future())
        with self._changed:
            if self._is_closed:
                raise RuntimeError("the journal is closed")
            self._waiting.append(waiting)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
                self._thread.start()
            self._changed.notify()
        await waiting.done

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
        if self._log is not None:
            self._log.close()
            self._log = None

    def _work(self) -> None:
        last = 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                if time.monotonic() - last < IDLE_S and not self._is_closed:
                    self._changed.wait_for(lambda: self._is_closed, GATHER_S)
                batch, self._waiting = self._waiting, []
            if not batch:
                return
            error: Exception | None = None
            try:
                self._commit(batch)
            except Exception as e:
                error = e
            _resolve(batch, error)
            last = time.monotonic()

    def _commit(self, batch: Sequence[_Waiting]) -> None:
        with explained(self.folder, "write"):
            current, self._log = self._log, None
            if current is None:
                writer = f"{writer_id()}-{quote(self.run, safe='')[:100]}"
                self.writers.add(writer)
                current = AppendLog(self.folder, writer, self.run)
            offsets = current.append([waiting.line for waiting in batch])
            self._log = current
        replies = (waiting.reply for waiting in batch)
        self._on_durable(current, list(zip(offsets, replies, strict=True)))


def _resolve(batch: Sequence[_Waiting], error: Exception | None) -> None:
    """Resolve the futures of a batch; each event loop is woken once, since waking it costs a system call."""

    def resolve(futures: Sequence[asyncio.Future[None]]) -> None:
        for done in futures:
            if not done.done():
                done.set_result(None) if error is None else done.set_exception(error)

    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = defaultdict(list)
    for waiting in batch:
        by_loop[waiting.done.get_loop()].append(waiting.done)
    for loop, futures in by_loop.items():
        with contextlib.suppress(RuntimeError):  # a loop that has ended has no waiting callers
            loop.call_soon_threadsafe(resolve, futures)


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


def uploaded_parts(backend: Backend) -> list[UploadPart]:
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


def download_parts(backend: Backend, wanted: Iterable[UploadPart], folder: Path) -> Iterator[Piece]:
    """Yield the parts as local files in their order, downloaded unless they were before."""
    with ThreadPoolExecutor(8) as pool:
        yield from pool.map(lambda part: _local(backend, part, folder), wanted)


def upload_missing(backend: Backend, folder: Path, there: Iterable[UploadPart]) -> None:
    """Upload what is missing of logs whose writers have ended. If one still writes, this does no harm."""
    by_writer: dict[str, list[UploadPart]] = defaultdict(list)
    for part in there:
        by_writer[part.writer].append(part)
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        at, end, missing = 0, whole_end(path), list[tuple[int, int]]()
        for part in by_writer[path.stem]:  # in the order of offsets
            if at < min(part.start, end):
                missing.append((at, min(part.start, end)))
            at = max(at, part.end)
        if at < end:
            missing.append((at, end))
        found = writer_state(path) if missing else "growing"
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
