"""Variables that must be set before Prefect is imported, and checks of its settings and its server.

Functions import Prefect, not this module: the package `flows` imports it first of all.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from functools import partial
from json import JSONDecodeError
from types import SimpleNamespace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from core.errors import PassingError, UserError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

_DEFAULTS = {
    # Nothing is sent anywhere: Prefect's server would report its use otherwise.
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # The temporary server takes 12 s of CPU to start, more on a busy machine.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    # Our own lines appear in Prefect's pages too.
    "PREFECT_LOGGING_EXTRA_LOGGERS": "core,tasks,flows",
    # Outside a flow run they have no page to appear on.
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "TOKENIZERS_PARALLELISM": "false",
}
_QUIET = {
    # Prefect's pages show its own lines and tracebacks; a terminal has ours, a sentence each.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "TRANSFORMERS_VERBOSITY": "error",
}

_REMEDY = "start one with `prefect server start` and export PREFECT_API_URL=http://127.0.0.1:4200/api"
_INSTEAD = f"{_REMEDY}, or unset PREFECT_API_URL for a temporary server"
_CONNECT_S, _ANSWER_S = 5.0, 20.0


def set_defaults() -> None:
    """Set variables that are not set; called when this package is imported, which is before Prefect is."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)


def prepare(*, debug: bool = False) -> None:
    """Set the defaults of a command, too; with `debug`, libraries log to the terminal."""
    set_defaults()
    for name, value in () if debug else _QUIET.items():
        os.environ.setdefault(name, value)


def check_prefect_settings() -> None:
    """Check that Prefect can read its settings. Raises UserError with the variable and the remedy."""
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


def server_address() -> str:
    """PREFECT_API_URL, from the environment or from Prefect's profile. Raises UserError without one."""
    from prefect.settings import PREFECT_API_URL

    url = PREFECT_API_URL.value()
    if not url:
        raise UserError(f"PREFECT_API_URL is not set, and this needs a Prefect server: {_REMEDY}")
    return str(url)


@contextlib.contextmanager
def connected() -> Iterator[SyncPrefectClient]:
    """A client of that server.

    Raises UserError where the address is not that of a Prefect API or it does not let us in, PassingError
    where nobody answers.
    """
    from prefect.client.orchestration import get_client

    url = server_address()
    with _explained(url), get_client(sync_client=True) as client:
        yield client


def require_reachable() -> None:
    """Find out within seconds whether the server that runs would report to answers.

    Does nothing without PREFECT_API_URL, where runs have a temporary server. Raises as `connected`.
    """
    import httpx
    from prefect.client.base import ServerType
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    url = PREFECT_API_URL.value()
    if not url:
        return
    patience = httpx.Timeout(_ANSWER_S, connect=_CONNECT_S)
    with (
        temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
        _explained(str(url)),
        get_client(sync_client=True, httpx_settings={"timeout": patience}) as client,
    ):
        problem = client.api_healthcheck()
        if problem is not None:
            raise problem
        # A page that is shown at any path is healthy too.
        if client.server_type != ServerType.CLOUD and not isinstance(client.api_version(), str):
            raise UserError(_no_api(str(url)))


@contextlib.contextmanager
def _explained(url: str) -> Iterator[None]:
    import httpx
    from prefect.exceptions import PrefectHTTPStatusError

    try:
        yield
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as e:
        raise UserError(
            f"PREFECT_API_URL is {url}, which is not the address of a server ({e}); {_INSTEAD}"
        ) from e
    except (httpx.DecodingError, JSONDecodeError) as e:
        raise UserError(_no_api(url)) from e
    except httpx.TransportError as e:
        raise PassingError(f"no Prefect server answers at {url} ({e or type(e).__name__}); {_INSTEAD}") from e
    except PrefectHTTPStatusError as e:
        status = e.response.status_code
        if status in (401, 403):
            how = "set PREFECT_API_AUTH_STRING or PREFECT_API_KEY"
            raise UserError(f"{url} does not let us in; {how}") from e
        if status == 429 or status >= 500:
            text = f"the Prefect server at {url} answers with status {status}; {_INSTEAD}"
            raise PassingError(text) from e
        raise UserError(f"{_no_api(url)} (status {status})") from e


def _no_api(url: str) -> str:
    what = "is not Prefect's API, whose address ends in /api"
    return f"what answers at PREFECT_API_URL ({url}) {what}; {_INSTEAD}"
