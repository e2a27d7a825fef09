"""Runs in forked processes: the imports are paid once, and each can be killed at will.

The process that forks must have no other thread, so all that opens a store happens in children.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import durable


@dataclass(frozen=True, slots=True)
class Moment:
    """The `count`th passing (from 0) of a failpoint; `name` None lets the run go on to its end."""

    name: str | None = None
    count: int = 0
    about: str | None = None
    """Count only passings about this."""


class ChildError(AssertionError):
    """A question that a child could not answer."""


TO_THE_END = Moment()


@dataclass(frozen=True, slots=True)
class Passed:
    """A failpoint that a run passed: when (seconds since its start), which, about what."""

    after: float
    name: str
    about: str


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended: killed or not, its exit code otherwise, and what it passed until then."""

    killed: bool
    code: int
    passed: tuple[Passed, ...]


@dataclass(frozen=True, slots=True)
class Child:
    """A forked process at work."""

    pid: int
    trace: Path

    @classmethod
    def start(cls, work: Callable[[], None], trace: Path, moment: Moment = TO_THE_END) -> Child:
        """Fork, and let the child do `work` until it is done or comes to its moment."""
        assert threading.active_count() == 1, f"a fork would lose threads: {threading.enumerate()}"
        pid = os.fork()
        if pid == 0:
            _work(work, trace, moment)
        return cls(pid, trace)

    def end(self) -> Ended:
        """Wait for it."""
        _, status = os.waitpid(self.pid, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        return Ended(killed, os.waitstatus_to_exitcode(status), _read(self.trace))


def run_in_child(
    work: Callable[[], None], trace: Path, moment: Moment = TO_THE_END, kill_after: float | None = None
) -> Ended:
    """Fork, let the child do `work`, and kill -9 it at a failpoint or after some seconds."""
    child = Child.start(work, trace, moment)
    if kill_after is not None:
        time.sleep(kill_after)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)
    return child.end()


def ask_child(question: Callable[[], Any]) -> Any:
    """What a function finds, asked in a child; anything JSON can hold."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        try:
            answer = json.dumps(question())
            with os.fdopen(writer, "w") as pipe:
                pipe.write(answer)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    _, status = os.waitpid(pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise ChildError("what was left could not be judged; see the traceback")
    return json.loads(answer)


def _work(work: Callable[[], None], trace: Path, moment: Moment) -> None:
    """Never returns."""
    os.setpgid(0, 0)
    out = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    started, seen = time.monotonic(), 0

    def passing(name: str, about: str) -> None:
        nonlocal seen
        os.write(out, (json.dumps([time.monotonic() - started, name, about]) + "\n").encode())
        if name == moment.name and moment.about in (None, about):
            if seen == moment.count:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

    durable.on_failpoint = passing
    try:
        work()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def _read(trace: Path) -> tuple[Passed, ...]:
    lines = trace.read_text().splitlines() if trace.exists() else []
    return tuple(Passed(*json.loads(line)) for line in lines)
