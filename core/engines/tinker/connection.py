"""Address and key of a Tinker server, checked before any work."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from core.errors import ConfigError, PassingError

HOSTED = "https://tinker.thinkingmachines.dev/services/tinker-prod"
KEY = "TINKER_API_KEY"
SERVER = "TINKER_BASE_URL"
_KEY_PREFIXES = ("tml-", "eyJ")
_PORTS = {"http": 80, "https": 443}
_HEALTH = "/api/v1/healthz"


@dataclass(frozen=True, slots=True)
class Connection:
    """A server's normalized address, and its key; None reads the key from TINKER_API_KEY."""

    server: str
    key: str | None = field(default=None, repr=False)

    def require_key(self) -> str:
        """Return the key. Raises ConfigError if it is missing or malformed."""
        if self.key is not None:
            return self.key
        key = os.environ.get(KEY, "").strip()
        if not key:
            raise ConfigError(f"student.engine is tinker, but {KEY} is not set; set it to your key")
        if not key.startswith(_KEY_PREFIXES):
            raise ConfigError(
                f"{KEY} is not a key: keys begin with {' or '.join(_KEY_PREFIXES)}; copy it again from the "
                "console"
            )
        return key

    def probe(self, timeout_s: float = 10.0) -> None:
        """Send one health request, whose answer may be anything. Raises PassingError.

        Without it the SDK retries an unreachable server for more than five minutes.
        """
        try:
            # `server_address` accepts only http and https.
            urllib.request.urlopen(self.server + _HEALTH, timeout=timeout_s).close()  # nosec B310
        except urllib.error.HTTPError as error:
            error.close()
        except OSError as error:
            reason = getattr(error, "reason", None) or error
            raise PassingError(
                f"the Tinker server {self.server} cannot be reached ({reason}); check "
                f"student.engine.base_url or {SERVER}, and the network"
            ) from error


def server_address(server: str | None = None) -> str:
    """Return the normalized address of `server`, else TINKER_BASE_URL, else of the hosted service.

    Sends no request. Raises ConfigError.
    """
    address = server or os.environ.get(SERVER) or HOSTED
    source = "student.engine.base_url" if server else SERVER
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
    netloc = host if port in (None, _PORTS[parts.scheme]) else f"{host}:{port}"
    return urlunsplit((parts.scheme, netloc, parts.path.rstrip("/"), "", ""))
