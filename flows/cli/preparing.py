"""Preparation of a command that runs a flow: checks before Prefect is imported, its settings, and the log."""

from __future__ import annotations

import contextlib
import copy
import logging
import sys
from typing import TYPE_CHECKING

from flows.cli import console

if TYPE_CHECKING:
    from core.config.loading import ResolvedConfig


def check_place(resolved: ResolvedConfig, *, new: bool) -> None:
    """Check root, name, data, rules, prompts and answers before Prefect takes its seconds to start."""
    from core.pipeline.opening import refuse_other
    from core.pipeline.preflight import check_files
    from core.store.objects import Store
    from core.store.runs import RunView

    view = RunView(Store.open(resolved.config.run.root), resolved.run_name)
    if not new:
        refuse_other(view, resolved)
    check_files(resolved.config)


def prepare(resolved: ResolvedConfig, debug: bool) -> None:
    """Set Prefect's settings, the log on the terminal, and progress bars on terminals."""
    from flows import environment

    environment.prepare(debug=debug)
    environment.check_prefect()
    environment.detach_temporary_server()
    start_log(resolved.config.run.log_level, debug=debug)


def start_log(level: str, *, debug: bool = False) -> None:
    """Write the log to the terminal from `level` on, and show progress bars on terminals."""
    from core import progress
    from core.pipeline.run_log import OURS

    progress.allowed = not console.in_json()
    handler = Terminal(tracebacks=debug)
    handler.setFormatter(console.formatter())
    for name in OURS:
        logger = logging.getLogger(name)
        logger.setLevel("DEBUG" if debug else level)
        for old in [h for h in logger.handlers if isinstance(h, Terminal)]:
            logger.removeHandler(old)
        logger.addHandler(handler)
        logger.propagate = False
    logging.captureWarnings(True)


class Terminal(logging.Handler):
    """Writes to the present stderr; tracebacks only if they are asked for."""

    def __init__(self, *, tracebacks: bool = False) -> None:
        super().__init__()
        self.tracebacks = tracebacks

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; none for progress that a bar shows."""
        from core import progress

        if record.name == progress.__name__ and progress.on_terminal():
            return
        if record.exc_info and not self.tracebacks:
            record = copy.copy(record)
            record.exc_info = record.exc_text = None
        # A terminal that has gone must not end a run; train.log has its lines.
        with progress.without_bars(), contextlib.suppress(BrokenPipeError):
            print(self.format(record), file=sys.stderr)
