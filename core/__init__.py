"""The pipeline without an orchestrator: data, teacher, rejection, student, evaluation, export, store.

Importing it sets OMP_WAIT_POLICY=PASSIVE unless the environment decides how OpenMP threads wait. By default a
waiting thread keeps its core busy, which next to another process takes the time from the thread it waits for
(`make bench ONLY=contention`). OpenMP runtimes read the variable when they are loaded, so this comes before
torch; child processes inherit it. It changes no result.
"""

import os

if not any(os.environ.get(name) for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")):
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
