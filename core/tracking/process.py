"""One tracker in a process of its own, told through a file and waited for with patience.

Nothing here blocks, and nothing raises: a tracker that does not work costs one warning.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from core.optional import Failure, Part, named
from core.tracking.child import LEFT, SPOOL, STATUS
from core.tracking.records import Point

log = logging.getLogger(__name__)

_HOME = Path(__file__).resolve().parents[2]


class Tracker:
    """One of them. `known` are the steps by series that it was told before, which are not told again."""

    def __init__(
        self, name: str, first: Mapping[str, Any], known: Mapping[str, Iterable[int]], patience: float
    ) -> None:
        self.name = name
        self._known = {series: set(steps) for series, steps in known.items()}
        self._patience, self._quiet = patience, False
        self._until = 0.0
        self.failure: Failure | None = None
        """Why it does not work, once that is known."""
        self._folder = Path(tempfile.mkdtemp(prefix=f"understudy-{name}-"))
        self._spool = (self._folder / SPOOL).open("a", encoding="utf-8")
        self._write(first)
        path = os.pathsep.join([str(_HOME), *filter(None, [os.environ.get("PYTHONPATH")])])
        # -P: a folder called core in the working directory is not ours.
        command = [sys.executable, "-P", "-m", "core.tracking.child", str(self._folder)]
        self._process = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": path, **_polite(os.environ)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def known(self) -> dict[str, list[int]]:
        """What it was told by now."""
        return {series: sorted(steps) for series, steps in self._known.items()}

    @property
    def pid(self) -> int:
        """Its process, which leads a group of its own."""
        return self._process.pid

    @property
    def works(self) -> bool:
        """Whether nothing was heard to the contrary."""
        return not self._quiet

    def tell(self, points: Iterable[Point]) -> None:
        """Spool points; those of steps that it knows are left out."""
        for point in points:
            if point.step is not None:
                steps = self._known.setdefault(point.series, set())
                if point.step in steps:
                    continue
                steps.add(point.step)
            self._write({"step": point.step, "values": dict(point.values)})
        self._failed()

    def end(self, state: str) -> None:
        """Say that no more will come."""
        self._write({"end": state})
        self._spool.close()
        self._until = time.monotonic() + self._patience

    def wait(self) -> None:
        """Until it has ended, but no longer than patience goes; it may then go on by itself."""
        while self._process.poll() is None and time.monotonic() < self._until:
            time.sleep(0.05)
        if self._process.poll() is None:
            self._leave()
            return
        if not self._failed() and self._status().get("state") != "ended":
            self._warn(
                ChildProcessError.__name__,
                f"its process ended by itself (exit code {self._process.returncode})",
            )
        shutil.rmtree(self._folder, ignore_errors=True)

    def _leave(self) -> None:
        """Its process knows by itself when to end."""
        with contextlib.suppress(OSError):
            (self._folder / LEFT).touch()
        if self._status().get("state") in ("ready", "ended"):
            log.info("%s still sends what is left; the run does not wait for it", self.name)
        else:
            self._warn(
                TimeoutError.__name__,
                f"it has not answered, and after {self._patience:g} s is waited for no longer",
            )

    def _failed(self) -> bool:
        status = self._status()
        if status.get("state") == "failed":
            self._warn(ChildProcessError.__name__, status["error"])
        return self._quiet

    def _warn(self, error: str, why: str) -> None:
        if not self._quiet:
            self._quiet = True
            self.failure = Failure(named(Part.TRACKER, self.name), error, why)
            log.warning("tracker %s: %s; the run goes on without it", self.name, why)

    def _status(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self._folder / STATUS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found

    def _write(self, line: Mapping[str, Any]) -> None:
        with contextlib.suppress(OSError, ValueError):  # a full disk stops the run elsewhere and says so
            self._spool.write(json.dumps(line) + "\n")
            self._spool.flush()


def _polite(environment: Mapping[str, str]) -> dict[str, str]:
    """Reports to the libraries' makers are off, and MLflow, which would ask a server that is not there for
    minutes, gives up sooner; what the environment says otherwise holds."""
    wanted = {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "WANDB_ERROR_REPORTING": "false",
    }
    return {name: value for name, value in wanted.items() if name not in environment}
