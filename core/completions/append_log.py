"""One writer's append-only file of replies, and the thread that makes lines durable together."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

from core import files
from core.completions.reply import Entry, Line
from core.store.disk import explained
from core.store.leases import is_dead, this_process, writer_id

SUFFIX = ".jsonl"
IDLE_S, GATHER_S = 0.1, 0.005
"""After this long without a line, the next is written at once; otherwise lines wait this long for others."""

_open: set[str] = set()
"""Logs that this process is writing: its process id alone does not distinguish them from closed ones."""

State = Literal["growing", "finished", "unknown"]


@dataclass(slots=True)
class AppendLog:
    """A file that this process appends to. `end` is the number of bytes that are durable."""

    writer: str
    path: Path
    _handle: int
    _header: bytes
    end: int = 0

    @classmethod
    def create(cls, folder: Path, writer: str, run: str) -> AppendLog:
        """Create a file whose first line names its writer. Raises OSError."""
        header = {"holder": this_process(), "run": run, "version": 1}
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{writer}{SUFFIX}"
        _open.add(writer)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        return cls(writer, path, handle, json.dumps(header).encode() + b"\n")

    def append(self, lines: Sequence[bytes]) -> list[int]:
        """Write lines, wait until they are durable, and return the offset of each. Raises OSError.

        After a failure the file is cut back to what was durable before, and closed: what a disk has kept
        after a failed fsync is unknown (Rebello et al. 2020, "Can Applications Recover from fsync
        Failures?").
        """
        start = self.end or len(self._header)
        data = b"".join(lines) if self.end else self._header + b"".join(lines)
        try:
            _write(self._handle, data)
            os.fsync(self._handle)
            if not self.end:
                files.sync([self.path.parent, self.path.parent.parent])
        except OSError:
            self._give_up()
            raise
        self.end += len(data)
        offsets = []
        for line in lines:
            offsets.append(start)
            start += len(line)
        return offsets

    def close(self) -> None:
        """Accept no more lines."""
        os.close(self._handle)
        _open.discard(self.writer)

    def _give_up(self) -> None:
        with contextlib.suppress(OSError):
            if self.end:
                os.ftruncate(self._handle, self.end)
            else:
                self.path.unlink()
        self.close()


def state(path: Path) -> State:
    """Return whether a log's writer still writes, as far as this machine can know."""
    with explained(path, "read"), path.open("rb") as f:
        line = f.readline()
    try:
        holder: dict[str, Any] = json.loads(line)["holder"]
        if holder == this_process():
            return "growing" if path.stem in _open else "finished"
        if is_dead(holder):
            return "finished"
        return "growing" if holder["machine"] == this_process()["machine"] else "unknown"
    except (ValueError, KeyError, TypeError):
        return "unknown"


OnDurable = Callable[[AppendLog, Sequence[tuple[int, Entry]]], None]
"""Called with offsets and entries of lines that have just become durable, before those who wait for them."""


class GroupCommit:
    """Makes lines from any thread or event loop durable together.

    The thread starts with the first line. After a failed write the next line goes to a new log.
    """

    def __init__(self, folder: Path, run: str, on_durable: OnDurable) -> None:
        self.folder, self.run, self._on_durable = folder, run, on_durable
        self.writers: set[str] = set()
        """Names of the logs of this object, each added before its file exists."""
        self._waiting: list[_Waiting] = []
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread: threading.Thread | None = None
        self._log: AppendLog | None = None
        self._last = 0.0

    async def write(self, line: Line) -> None:
        """Return when the line is durable. Raises StoreError where it could not be written.

        A caller that is cancelled has its line written all the same: the reply was paid for.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._add(_Waiting(line, done))
        await done

    def write_now(self, line: Line) -> None:
        """As `write`, for a caller without an event loop."""
        done: Future[None] = Future()
        self._add(_Waiting(line, done))
        done.result()

    def close(self) -> None:
        """Make durable what waits, and end."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
        if self._log is not None:
            self._log.close()
            self._log = None

    def _add(self, waiting: _Waiting) -> None:
        with self._changed:
            if self._is_closed:
                raise RuntimeError("the journal is closed")
            self._waiting.append(waiting)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _work(self) -> None:
        while batch := self._next():
            try:
                self._commit([waiting.line for waiting in batch])
            except Exception as e:
                _report(batch, e)
            else:
                _report(batch, None)
            self._last = time.monotonic()

    def _next(self) -> list[_Waiting]:
        """Return the lines that wait, as soon as there are some; none at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            if time.monotonic() - self._last < IDLE_S and not self._is_closed:
                self._changed.wait_for(lambda: self._is_closed, GATHER_S)
            batch, self._waiting = self._waiting, []
        return batch

    def _commit(self, lines: Sequence[Line]) -> None:
        with explained(self.folder, "write"):
            log, self._log = self._log or self._new(), None
            offsets = log.append([line.data for line in lines])
            self._log = log
        self._on_durable(log, [(at, line.entry) for at, line in zip(offsets, lines, strict=True)])

    def _new(self) -> AppendLog:
        writer = f"{writer_id()}-{quote(self.run, safe='')[:100]}"
        self.writers.add(writer)
        return AppendLog.create(self.folder, writer, self.run)


class _Waiting(NamedTuple):
    line: Line
    done: Future[None] | asyncio.Future[None]


def _report(batch: Sequence[_Waiting], error: Exception | None) -> None:
    """Resolve the futures of a batch; each event loop is woken once, since waking it costs a system call."""
    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = defaultdict(list)
    for waiting in batch:
        if isinstance(waiting.done, asyncio.Future):
            by_loop[waiting.done.get_loop()].append(waiting.done)
        else:
            _resolve([waiting.done], error)
    for loop, futures in by_loop.items():
        with contextlib.suppress(RuntimeError):  # nobody waits in a loop that has ended
            loop.call_soon_threadsafe(_resolve, futures, error)


def _resolve(futures: Sequence[Future[None] | asyncio.Future[None]], error: Exception | None) -> None:
    for done in futures:
        if done.done():
            continue
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)


def _write(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
