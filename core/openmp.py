"""How OpenMP's threads wait for each other: asleep, unless the user has decided otherwise."""

from __future__ import annotations

import os

WAIT_POLICY = "OMP_WAIT_POLICY"
_CHOICES = (WAIT_POLICY, "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Each says how long a thread spins before it sleeps: to every runtime, to GNU's, to LLVM's and Intel's."""


def wait_passively() -> None:
    """Set OMP_WAIT_POLICY=PASSIVE unless the environment says how threads are to wait.

    By default a thread that waits keeps its core busy for a while, which next to any other process takes
    the time from the thread it waits for; `make bench ONLY=contention` measures both. The runtimes read
    the variable when they are loaded, so this has to come before torch is imported; child processes
    inherit it. It changes no result.
    """
    if not any(os.environ.get(name) for name in _CHOICES):
        os.environ[WAIT_POLICY] = "PASSIVE"
