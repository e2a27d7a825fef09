"""One writer's file of replies: appended, made safe by one thread for all who wait, never rewritten."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from core import files
from core.store.disk import explained
from core.store.holder import is_dead, this_process, writer_id

SUFFIX = ".jsonl"
IDLE_S, GATHER_S = 0.1, 0.005
"""After this long without a line the next is written at once; else lines wait this long for company."""

_open: set[str] = set()
"""This process's spools that are being written: its number alone does not tell them from closed ones."""

State = Literal["growing", "finished", "unknown"]


@dataclass(slots=True)
class AppendLog:
    """A file that this process appends to. `end` is how far it is safe, in bytes."""

    writer: str
    path: Path
    _handle: int
    _header: bytes
    end: int = 0

    @classmethod
    def create(cls, folder: Path, writer: str, run: str) -> AppendLog:
        """A new file, whose first line will say who writes. Raises OSError."""
        header = {"holder": this_process(), "run": run, "version": 1}
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{writer}{SUFFIX}"
        _open.add(writer)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        return cls(writer, path, handle, json.dumps(header).encode() + b"\n")

    def append(self, lines: Sequence[bytes]) -> list[int]:
        """Write lines and wait until they are safe; returns the offset of each. Raises OSError.

        After a failure the file ends where it was safe before, and takes no more: what a disk that
        failed once has kept is not known (Rebello et al. 2020, "Can Applications Recover from
        fsync Failures?").
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
        """Take no more lines."""
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
    """Whether the writer of a spool still writes, as far as that can be known here."""
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


Safe = Callable[[AppendLog, Sequence[tuple[bytes, int]]], None]
"""Told of each line that has just become safe, with its offset, before those who wait for it."""


class GroupCommit:
    """Lines from any thread or coroutine, made safe together.

    The thread begins with the first line. After a failed write the next line goes to a new spool.
    """

    def __init__(self, folder: Path, run: str, safe: Safe) -> None:
        self.folder, self.run, self._safe = folder, run, safe
        self.writers: set[str] = set()
        """Names of the spools of this object, each there before its file is."""
        self._waiting: list[tuple[bytes, Future[None]]] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._spool: AppendLog | None = None
        self._last = 0.0

    def add(self, line: bytes) -> Future[None]:
        """Done when the line is safe; fails with StoreError, one sentence, where it could not be made so."""
        done: Future[None] = Future()
        with self._changed:
            if self._closed:
                raise RuntimeError("the journal is closed")
            self._waiting.append((line, done))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
                self._thread.start()
            self._changed.notify()
        return done

    def close(self) -> None:
        """Make safe what waits, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    def _work(self) -> None:
        while batch := self._next():
            # A caller that gave up waiting has its line written all the same: the answer was paid.
            waiting = [done for _, done in batch if done.set_running_or_notify_cancel()]
            try:
                self._commit([line for line, _ in batch])
            except Exception as e:
                for done in waiting:
                    done.set_exception(e)
            else:
                for done in waiting:
                    done.set_result(None)
            self._last = time.monotonic()

    def _next(self) -> list[tuple[bytes, Future[None]]]:
        """The lines that wait, as soon as there are some; none at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if time.monotonic() - self._last < IDLE_S and not self._closed:
                self._changed.wait_for(lambda: self._closed, GATHER_S)
            batch, self._waiting = self._waiting, []
        return batch

    def _commit(self, lines: Sequence[bytes]) -> None:
        with explained(self.folder, "write"):
            spool, self._spool = self._spool or self._new(), None
            offsets = spool.append(lines)
            self._spool = spool
        self._safe(spool, list(zip(lines, offsets, strict=True)))

    def _new(self) -> AppendLog:
        writer = f"{writer_id()}-{quote(self.run, safe='')[:100]}"
        self.writers.add(writer)
        return AppendLog.create(self.folder, writer, self.run)


def _write(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
