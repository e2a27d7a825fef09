"""A chat request, and the key under which its completion is stored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from core import jsonio
from core.prompts import Message

KEY_DIGITS = 32
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A prompt to complete. `attempt` makes a second request with the same prompt another request.

    `id` is the caller's name for what the prompt is about, such as a text's id. `temperature` None sends
    none. `hinted` records that the prompt shows the expected answer.
    """

    id: str
    messages: tuple[Message, ...]
    attempt: int = 0
    temperature: float | None = 0.0
    hinted: bool = False


@dataclass(frozen=True)
class PreparedRequest:
    """Everything that decides what an endpoint may answer, credentials left out.

    `extra` contains JSON values, such as a seed, and must not be changed afterwards. `schema_digest` is None
    where the request has no schema of its own; the teacher's schema has none, since version 0.1 did not put
    it into keys.
    """

    endpoint: str
    model: str
    messages: tuple[Message, ...]
    attempt: int
    temperature: float | None
    max_tokens: int
    output_format: str
    extra: Mapping[str, Any]
    schema_digest: str | None = field(default=None)

    @cached_property
    def key(self) -> str:
        """32 hex digits over all fields. Raises ValueError where `extra` contains NaN.

        The same as in version 0.1, so that its stored answers are found.
        """
        return jsonio.digest(self._content())[:KEY_DIGITS]

    def keys_by_limit(self, limits: Iterable[int]) -> Iterator[tuple[int, str]]:
        """Yield each token limit with the key under that limit; several times as fast as `key`."""
        content = self._content()
        # Keys are sorted: the limit is between these two parts.
        first = {name: value for name, value in content.items() if name < "max_tokens"}
        last = {name: value for name, value in content.items() if name > "max_tokens"}
        before = hashlib.sha256(jsonio.canonical(first)[:-1] + b',"max_tokens":')
        after = b"," + jsonio.canonical(last)[1:]
        for limit in limits:
            digest = before.copy()
            digest.update(b"%d" % limit + after)
            yield limit, digest.hexdigest()[:KEY_DIGITS]

    def _content(self) -> dict[str, Any]:
        content = {
            "endpoint": normalized(self.endpoint),
            "model": self.model,
            "messages": [[m.role, m.content] for m in self.messages],
            "attempt": self.attempt,
            # A config may contain 0 where the code has 0.0, and nobody means -0.0.
            "temperature": None if self.temperature is None else float(self.temperature) + 0.0,
            "max_tokens": self.max_tokens,
            "output_format": self.output_format,
            "extra": dict(self.extra),
        }
        if self.schema_digest is not None:
            content["schema"] = self.schema_digest
        return content


@lru_cache(maxsize=16)
def normalized(endpoint: str) -> str:
    """Return the one spelling of an endpoint: lower-case scheme and host, without a trailing slash, a default
    port, or user and password (they identify the client, not the server).
    """
    parts = urlsplit(endpoint.strip())
    scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
    if ":" in host:
        host = f"[{host}]"
    if parts.port is not None and parts.port != _PORTS.get(scheme):
        host = f"{host}:{parts.port}"
    return urlunsplit((scheme, host, parts.path.rstrip("/"), parts.query, ""))
