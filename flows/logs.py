"""Where log lines go: the terminal, the run's train.log, and, through Prefect, its pages."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

OURS = ("core", "tasks", "flows")


def configure(level: str, *, debug: bool) -> None:
    """Our lines on stderr, from `level` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    for name in OURS:
        logger = logging.getLogger(name)
        logger.setLevel("DEBUG" if debug else level)
        logger.addHandler(handler)
        logger.propagate = False


@contextlib.contextmanager
def run_log(path: Path, level: str) -> Iterator[None]:
    """Write our lines from `level` on to `path` too, for as long as a run lasts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, mode="a", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for name in OURS:
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        if logger.level == logging.NOTSET:
            logger.setLevel(level)
    try:
        yield
    finally:
        for name in OURS:
            logging.getLogger(name).removeHandler(handler)
        handler.close()
