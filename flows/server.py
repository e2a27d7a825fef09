"""The Prefect server that a command needs: its address, and a client with sentences for its failures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from json import JSONDecodeError

import httpx
from prefect.client.base import ServerType
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from core.errors import PassingError, UserError

_REMEDY = "start one with `prefect server start` and export PREFECT_API_URL=http://127.0.0.1:4200/api"
_INSTEAD = f"{_REMEDY}, or unset PREFECT_API_URL for a temporary server"
_CONNECT_S, _ANSWER_S = 5.0, 20.0


def address() -> str:
    """PREFECT_API_URL, from the environment or from Prefect's profile. Raises UserError without one."""
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
    url = address()
    with _explained(url), get_client(sync_client=True) as client:
        yield client


def require_reachable() -> None:
    """Find out within seconds whether the server that runs would report to answers.

    Does nothing without PREFECT_API_URL, where runs have a temporary server. Raises as `connected`.
    """
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
