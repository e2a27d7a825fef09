"""Key and address of a Tinker server, checked before any work."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from core.errors import ConfigError, PassingError

HOSTED = "https://tinker.thinkingmachines.dev/services/tinker-prod"
KEY = "TINKER_API_KEY"
SERVER = "TINKER_BASE_URL"
_BEGINNINGS = ("tml-", "eyJ")
_PORTS = {"http": 80, "https": 443}
_HEALTH = "/api/v1/healthz"


@dataclass(frozen=True, slots=True)
class Connection:
    """A server's address, normalised, and the key for it."""

    server: str
    key: str = field(repr=False)

    def probe(self, timeout_s: float = 10.0) -> None:
        """Ask the server for a sign of life, once; any answer is one.

        The SDK goes on trying a server that is not there for five minutes and more. Raises
        PassingError.
        """
        try:
            # Only http and https come through `connection`.
            urllib.request.urlopen(self.server + _HEALTH, timeout=timeout_s).close()  # nosec B310
        except urllib.error.HTTPError as error:
            error.close()
        except OSError as error:
            reason = getattr(error, "reason", None) or error
            raise PassingError(
                f"the Tinker server {self.server} cannot be reached ({reason}); check "
                f"student.tinker_base_url or {SERVER}, and the network"
            ) from error


def connection(server: str | None = None, environment: Mapping[str, str] | None = None) -> Connection:
    """The connection from the config's server, else TINKER_BASE_URL, else the hosted service.

    Asks nothing of the network. Raises ConfigError where the key or the address is no such thing.
    """
    environment = os.environ if environment is None else environment
    return Connection(server_address(server, environment), _key(environment))


def server_address(server: str | None = None, environment: Mapping[str, str] | None = None) -> str:
    """The address alone, as in `connection`, for what needs no key. Raises ConfigError where it is none."""
    environment = os.environ if environment is None else environment
    address = server or environment.get(SERVER) or HOSTED
    return _normalised(address, "student.tinker_base_url" if server else SERVER)


def _key(environment: Mapping[str, str]) -> str:
    key = environment.get(KEY, "").strip()
    if not key:
        raise ConfigError(f"student.engine is tinker, but {KEY} is not set; put your key into it")
    if not key.startswith(_BEGINNINGS):
        raise ConfigError(
            f"{KEY} holds no key: a key begins with {' or '.join(_BEGINNINGS)}; copy it anew from the console"
        )
    return key


def _normalised(address: str, source: str) -> str:
    try:
        parts = urlsplit(address.strip())
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"{source} is {address!r}, which is no address of a server: {error}") from error
    if parts.scheme not in _PORTS or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ConfigError(
            f"{source} is {address!r}, which is no address of a server; it reads https://host or "
            f"http://host:port, with a path where the server has one"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    place = host if port in (None, _PORTS[parts.scheme]) else f"{host}:{port}"
    return urlunsplit((parts.scheme, place, parts.path.rstrip("/"), "", ""))
