"""A question to a live teacher, and the key under which its answer is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from core import jsonio
from core.prompts import Message

KEY_DIGITS = 32
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class TeacherRequest:
    """All that decides what a teacher may answer, credentials left out.

    `attempt` makes a second asking of the same text another request. `extra` holds JSON values, such
    as a seed, and must not be changed afterwards.
    """

    endpoint: str
    model: str
    messages: tuple[Message, ...]
    attempt: int
    temperature: float | None
    max_tokens: int
    output_format: str
    extra: Mapping[str, Any]

    @cached_property
    def key(self) -> str:
        """32 hex digits over everything in it. Raises ValueError where `extra` holds NaN.

        The same as in version 0.1, whose answers are found by it. `output_format` is the format's name: what
        the format's schema says in detail is not part of the key.
        """
        return jsonio.digest(self._content())[:KEY_DIGITS]

    def keys_by_limit(self, limits: Iterable[int]) -> Iterator[tuple[int, str]]:
        """Each token limit with the key of this request under that limit; several times as fast as `key`."""
        content = self._content()
        # Keys are sorted: the limit stands between these two parts.
        first = {name: value for name, value in content.items() if name < "max_tokens"}
        last = {name: value for name, value in content.items() if name > "max_tokens"}
        before = hashlib.sha256(jsonio.canonical(first)[:-1] + b',"max_tokens":')
        after = b"," + jsonio.canonical(last)[1:]
        for limit in limits:
            digest = before.copy()
            digest.update(b"%d" % limit + after)
            yield limit, digest.hexdigest()[:KEY_DIGITS]

    def _content(self) -> dict[str, Any]:
        return {
            "endpoint": normalised(self.endpoint),
            "model": self.model,
            "messages": [[m.role, m.content] for m in self.messages],
            "attempt": self.attempt,
            # A config may say 0 where the code says 0.0, and -0.0 is neither's intention.
            "temperature": None if self.temperature is None else float(self.temperature) + 0.0,
            "max_tokens": self.max_tokens,
            "output_format": self.output_format,
            "extra": dict(self.extra),
        }


def normalised(endpoint: str) -> str:
    """The one spelling of an endpoint: small letters in scheme and host, no closing slash, no usual port,
    no user and password (they name who asks, not who answers).
    """
    parts = urlsplit(endpoint.strip())
    scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
    if ":" in host:
        host = f"[{host}]"
    if parts.port is not None and parts.port != _PORTS.get(scheme):
        host = f"{host}:{parts.port}"
    return urlunsplit((scheme, host, parts.path.rstrip("/"), parts.query, ""))
