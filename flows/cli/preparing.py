"""What a command that runs a flow does first: it looks whether all is there, then prepares Prefect."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from flows.cli import saying

if TYPE_CHECKING:
    from core.config.loading import ResolvedConfig


def check_place(resolved: ResolvedConfig, *, new: bool) -> None:
    """Root, name, data, rules, prompts and answers are there: said before Prefect takes its seconds."""
    from core.pipeline.naming import refuse_other
    from core.pipeline.preflight import check_files
    from core.store.objects import Store
    from core.store.runs import RunView

    view = RunView(Store.open(resolved.config.run.root), resolved.run_name)
    if not new:
        refuse_other(view, resolved)
    check_files(resolved.config)


def prepare(resolved: ResolvedConfig, debug: bool) -> None:
    """Prefect's settings, the log on the terminal, and bars where people look on."""
    from flows import environment

    environment.prepare(debug=debug)
    environment.check_prefect()
    environment.detach_temporary_server()
    speak(resolved.config.run.log_level, debug=debug)


def speak(level: str, *, debug: bool = False) -> None:
    """The log on the terminal from `level` on, and bars where people look on."""
    from core import progress
    from flows.logs import configure

    progress.allowed = not saying.in_json()
    configure(level, debug=debug, formatter=saying.formatter())
    logging.captureWarnings(True)
