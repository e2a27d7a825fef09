"""Log lines on the terminal."""

from __future__ import annotations

import contextlib
import copy
import logging
import sys

from core import progress
from core.pipeline.run_log import OURS


class Terminal(logging.Handler):
    """Writes to whatever stderr is at the moment; tracebacks only where they are asked for."""

    def __init__(self, *, tracebacks: bool = False) -> None:
        super().__init__()
        self.tracebacks = tracebacks

    def emit(self, record: logging.LogRecord) -> None:
        """One line; of progress none where a bar shows it."""
        if record.name == progress.__name__ and progress.on_terminal():
            return
        if record.exc_info and not self.tracebacks:
            record = copy.copy(record)
            record.exc_info = record.exc_text = None
        # A terminal that has gone must not end a run, which its train.log still describes.
        with progress.without_bars(), contextlib.suppress(BrokenPipeError):
            print(self.format(record), file=sys.stderr)  # noqa: T201


def configure(level: str, *, debug: bool, formatter: logging.Formatter) -> None:
    """Our lines on stderr, from `level` on."""
    handler = Terminal(tracebacks=debug)
    handler.setFormatter(formatter)
    for name in OURS:
        logger = logging.getLogger(name)
        logger.setLevel("DEBUG" if debug else level)
        for old in [h for h in logger.handlers if isinstance(h, Terminal)]:
            logger.removeHandler(old)
        logger.addHandler(handler)
        logger.propagate = False
