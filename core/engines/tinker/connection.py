"""Address and key of a Tinker server, checked before any work."""

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
    """A server's normalized address, and the key for it. None takes the key from TINKER_API_KEY."""

    server: str
    key: str | None = field(default=None, repr=False)

    def require_key(self) -> str:
        """Return the key. Raises ConfigError if it is missing or malformed."""
        return self.key or _key(os.environ)

    def probe(self, timeout_s: float = 10.0) -> None:
        """Send one health request; any answer will do. Raises PassingError.

        Without it the SDK retries an unreachable server for more than five minutes.
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
                f"student.engine.base_url or {SERVER}, and the network"
            ) from error


def connection(server: str | None = None, environment: Mapping[str, str] | None = None) -> Connection:
    """Return the connection to `server`, else TINKER_BASE_URL, else the hosted service.

    Sends no request. Raises ConfigError for a missing or malformed key or address.
    """
    environment = os.environ if environment is None else environment
    return Connection(server_address(server, environment), _key(environment))


def server_address(server: str | None = None, environment: Mapping[str, str] | None = None) -> str:
    """Return the address that `connection` uses; needs no key. Raises ConfigError."""
    environment = os.environ if environment is None else environment
    address = server or environment.get(SERVER) or HOSTED
    return _normalised(address, "student.engine.base_url" if server else SERVER)


def _key(environment: Mapping[str, str]) -> str:
    key = environment.get(KEY, "").strip()
    if not key:
        raise ConfigError(f"student.engine is tinker, but {KEY} is not set; set it to your key")
    if not key.startswith(_BEGINNINGS):
        raise ConfigError(
            f"{KEY} is not a key: keys begin with {' or '.join(_BEGINNINGS)}; copy it again from the console"
        )
    return key


def _normalised(address: str, source: str) -> str:
    try:
        parts = urlsplit(address.strip())
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"{source} is {address!r}, which is not a server's address: {error}") from error
    if parts.scheme not in _PORTS or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ConfigError(
            f"{source} is {address!r}, which is not a server's address; write https://host or "
            f"http://host:port, with a path if the server has one"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    place = host if port in (None, _PORTS[parts.scheme]) else f"{host}:{port}"
    return urlunsplit((parts.scheme, place, parts.path.rstrip("/"), "", ""))
