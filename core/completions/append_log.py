"""One writer's append-only file of replies, and the thread that makes lines durable together."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

from core import files
from core.completions.reply import Reply, encode
from core.store.backend import explained
from core.store.leases import is_dead, this_process, writer_id

SUFFIX = ".jsonl"
IDLE_S, GATHER_S = 0.1, 0.005
_BLOCK = 65536
"""After this long without a line, the next is written at once; otherwise lines wait this long for others."""

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
                files.sync([self.path.parent, self.path.parent.parent])
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


def state(path: Path) -> Literal["growing", "finished", "unknown"]:
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
        waiting = _Waiting(encode(reply), reply, asyncio.get_running_loop().create_future())
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
            log, self._log = self._log, None
            if log is None:
                writer = f"{writer_id()}-{quote(self.run, safe='')[:100]}"
                self.writers.add(writer)
                log = AppendLog(self.folder, writer, self.run)
            offsets = log.append([waiting.line for waiting in batch])
            self._log = log
        replies = (waiting.reply for waiting in batch)
        self._on_durable(log, list(zip(offsets, replies, strict=True)))


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
