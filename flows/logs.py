"""Where log lines go: the terminal, the run's train.log, and, through Prefect, its pages."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

OURS = ("core", "tasks", "flows")


class Terminal(logging.Handler):
    """Writes to whatever stderr is at the moment."""

    def emit(self, record: logging.LogRecord) -> None:
        """One line."""
        print(self.format(record), file=sys.stderr)  # noqa: T201


class RunLog(logging.FileHandler):
    """A log on a disk that may be full: what cannot be written there is on the terminal anyway,
    and must not stand in front of the sentence that says the disk is full."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Say nothing."""

    def close(self) -> None:
        """Close, even if the last lines cannot be written."""
        with contextlib.suppress(OSError):
            super().close()


def configure(level: str, *, debug: bool) -> None:
    """Our lines on stderr, from `level` on."""
    handler = Terminal()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    for name in OURS:
        logger = logging.getLogger(name)
        logger.setLevel("DEBUG" if debug else level)
        for old in [h for h in logger.handlers if isinstance(h, Terminal)]:
            logger.removeHandler(old)
        logger.addHandler(handler)
        logger.propagate = False


@contextlib.contextmanager
def run_log(path: Path, level: str) -> Iterator[None]:
    """Write our lines from `level` on to `path` too, for as long as a run lasts.

    What ends the run is written there as well; on the terminal the command line says it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = RunLog(path, mode="a", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for name in OURS:
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        if logger.level == logging.NOTSET:
            logger.setLevel(level)
    try:
        yield
    except BaseException as e:
        values = {"name": __name__, "levelname": "ERROR", "msg": f"{type(e).__name__}: {e}"}
        handler.handle(logging.makeLogRecord({**values, "levelno": logging.ERROR}))
        raise
    finally:
        for name in OURS:
            logging.getLogger(name).removeHandler(handler)
        handler.close()
