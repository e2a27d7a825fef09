"""What has to stand in the environment before Prefect is imported, each with its reason."""

from __future__ import annotations

import os
import subprocess
from functools import partial
from types import SimpleNamespace

_DEFAULTS = {
    # Nothing is sent anywhere: Prefect's server would report its use otherwise.
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # The temporary server takes 12 s of CPU to start, more on a busy machine.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    # Our own lines appear in Prefect's pages too.
    "PREFECT_LOGGING_EXTRA_LOGGERS": "core,tasks,flows",
    "TOKENIZERS_PARALLELISM": "false",
}


_QUIET = {
    # Prefect's pages show its own lines and tracebacks; a terminal has ours, a sentence each.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "TRANSFORMERS_VERBOSITY": "error",
}


def set_defaults() -> None:
    """Set what is not set; called when this package is imported, which is before Prefect is."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)


def prepare(*, debug: bool = False) -> None:
    """Set what a command needs besides, unless it is set."""
    set_defaults()
    for name, value in () if debug else _QUIET.items():
        os.environ.setdefault(name, value)


def detach_temporary_server() -> None:
    """Let Prefect start its temporary server in a session of its own.

    Ctrl-C in a terminal goes to all processes of the run's group: a server that ends first leaves the
    run waiting for it, and no word of how the run ended. Prefect ends the server when we end.
    """
    from prefect.settings import PREFECT_API_URL

    if PREFECT_API_URL.value():
        return
    from prefect.server.api import server

    apart = partial(subprocess.Popen, start_new_session=True)
    vars(server)["subprocess"] = SimpleNamespace(**{**vars(subprocess), "Popen": apart})
