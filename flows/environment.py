"""Environment variables that must be set before Prefect is imported, and checks of its settings."""

from __future__ import annotations

import os
import subprocess
from functools import partial
from types import SimpleNamespace
from urllib.parse import urlsplit

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
    """Set variables that are not set; called when this package is imported, which is before Prefect is."""
    # Not at the top: this module is imported before the check that `core` is ours.
    import core  # noqa: F401  # sets how OpenMP threads wait

    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)


def prepare(*, debug: bool = False) -> None:
    """Set the defaults of a command, too; with `debug`, libraries log to the terminal."""
    set_defaults()
    for name, value in () if debug else _QUIET.items():
        os.environ.setdefault(name, value)


def check_prefect_settings() -> None:
    """Check that Prefect can read its settings. Raises UserError with the variable and the remedy."""
    from core.errors import UserError

    url = os.environ.get("PREFECT_API_URL", "")
    try:
        parts = urlsplit(url)
        named = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        named = False
    if url and not (named and url == url.strip()):
        raise UserError(
            f"PREFECT_API_URL is {url!r}, which is not the address of a server; write it like "
            "http://127.0.0.1:4200/api, or unset it for a temporary server"
        )
    try:
        import prefect.settings  # noqa: F401  # reads them all
    except ValueError as e:
        raise UserError(f"Prefect's settings cannot be read; correct the one that is named: {e}") from e


def check_prefect() -> None:
    """As `check_prefect_settings`, and whether the server that PREFECT_API_URL names answers.

    Raises UserError, and PassingError where the server may answer later.
    """
    check_prefect_settings()
    from flows.server import require_reachable

    require_reachable()


def detach_temporary_server() -> None:
    """Let Prefect start its temporary server in a session of its own.

    Ctrl-C in a terminal goes to all processes of the run's group: a server that ends first leaves the run
    waiting for it, without a message. Prefect ends the server when we end. Prefect 3.9 has no option for
    this, so its module gets a `subprocess` whose Popen starts a session; tests/flows/test_environment.py
    notices if Prefect starts its server in another way.
    """
    from prefect.settings import PREFECT_API_URL

    if PREFECT_API_URL.value():
        return
    from prefect.server.api import server

    apart = partial(subprocess.Popen, start_new_session=True)
    vars(server)["subprocess"] = SimpleNamespace(**{**vars(subprocess), "Popen": apart})
