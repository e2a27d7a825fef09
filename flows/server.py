"""The Prefect server that a command needs: its address, and a client with sentences for its failures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL

from core.errors import PassingError, UserError

_REMEDY = "start one with `prefect server start` and export PREFECT_API_URL=http://127.0.0.1:4200/api"


def address() -> str:
    """PREFECT_API_URL, from the environment or from Prefect's profile. Raises UserError without one."""
    url = PREFECT_API_URL.value()
    if not url:
        raise UserError(f"PREFECT_API_URL is not set, and this needs a Prefect server: {_REMEDY}")
    return str(url)


@contextlib.contextmanager
def connected() -> Iterator[SyncPrefectClient]:
    """A client of that server.

    Raises UserError where it does not let us in, PassingError where nobody answers.
    """
    url = address()
    try:
        with get_client(sync_client=True) as client:
            yield client
    except httpx.TransportError as e:
        raise PassingError(f"no Prefect server answers at {url} ({e}); {_REMEDY}") from e
    except PrefectHTTPStatusError as e:
        if e.response.status_code not in (401, 403):
            raise
        raise UserError(f"{url} does not let us in; set PREFECT_API_AUTH_STRING or PREFECT_API_KEY") from e
