"""Work in a forked process that a real SIGKILL ends: no cleanup of the code runs."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable

from core import durable


def kill() -> None:
    """Kill this process, as `kill -9` does."""
    os.kill(os.getpid(), signal.SIGKILL)


def was_killed(work: Callable[[], object], at: str | None = None) -> bool:
    """Do `work` in a child that is killed at the failpoint `at`, or where `work` calls `kill`.

    Raises AssertionError if the child ends with an error of its own.
    """
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            durable.on_failpoint = lambda name, about: kill() if name == at else None
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, -signal.SIGKILL), f"the child ended with {code}; see the traceback"
    return code != 0
