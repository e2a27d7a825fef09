"""Chat requests, the keys under which their completions are stored, and parsers of completions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import urlsplit, urlunsplit

from core import jsonio
from core.completions.reply import KEY_DIGITS, Reply, ending
from core.config.endpoint import Endpoint
from core.prompts import Message

PLAIN = "plain"
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


@dataclass(frozen=True, slots=True)
class ResponseSchema:
    """A JSON schema that the endpoint is asked to follow, and its name."""

    name: str
    schema: Mapping[str, Any]
    is_in_key: bool = True
    """False only for the teacher's, whose keys are those of version 0.1."""

    @property
    def digest(self) -> str | None:
        """What request keys contain of it."""
        return jsonio.digest([self.name, self.schema])[:16] if self.is_in_key else None


def response_formats(schema: ResponseSchema | None) -> Mapping[str, Mapping[str, Any] | None]:
    """Return the output formats, the most binding first, with the response_format that asks for each."""
    if schema is None:
        return {PLAIN: None}
    described = {"name": schema.name, "strict": True, "schema": schema.schema}
    return {
        "json_schema": {"type": "json_schema", "json_schema": described},
        "json_object": {"type": "json_object"},
        PLAIN: None,
    }


@dataclass(frozen=True)
class PreparedRequest:
    """A request as it is sent: with endpoint, token limit and output format.

    `schema_digest` is None if the request has no schema of its own; the teacher's has none, since version 0.1
    did not put it into keys. `endpoint.extra_body` must not be changed afterwards.
    """

    request: ChatRequest
    endpoint: Endpoint
    max_tokens: int
    output_format: str
    schema_digest: str | None = None

    @cached_property
    def key(self) -> str:
        """32 hex digits over everything that decides the reply, as in version 0.1.

        Raises ValueError if `extra_body` contains NaN.
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
        endpoint, request = self.endpoint, self.request
        content = {
            "endpoint": normalized(endpoint.base_url),
            "model": endpoint.model,
            "messages": [[m.role, m.content] for m in request.messages],
            "attempt": request.attempt,
            # A config may contain 0 or -0.0 where the code has 0.0.
            "temperature": None if request.temperature is None else float(request.temperature) + 0.0,
            "max_tokens": self.max_tokens,
            "output_format": self.output_format,
            "extra": endpoint.extra_body,
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


class ParsedContent(Protocol):
    """The result of a parser: whether a completion is usable, and if not, a short code for the reason."""

    @property
    def ok(self) -> bool: ...

    @property
    def error(self) -> str | None: ...


P = TypeVar("P", bound=ParsedContent)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a completion is unusable: a code, what is wrong in words, and how to fix it."""

    code: str
    what: str
    remedy: str


class Parser(Protocol[P]):
    """Reads completions. Each is parsed once; `problem` returns None for a usable one."""

    def parse(self, reply: Reply) -> P: ...

    def problem(self, reply: Reply, parsed: P) -> Problem | None: ...


@dataclass(frozen=True, slots=True)
class Completion(Generic[P]):
    """A request with its stored reply and the parsed content."""

    request: ChatRequest
    reply: Reply
    parsed: P


@dataclass(frozen=True, slots=True)
class Text:
    """The text of a completion; not ok if it is empty, cut off or withheld."""

    text: str
    error: str | None = None

    @property
    def ok(self) -> bool:
        return self.error is None


class TextParser:
    """Returns the text of completions."""

    def parse(self, reply: Reply) -> Text:
        text, how = reply.raw_output.strip(), ending(reply.finish_reason)
        if how in ("truncated", "filtered", "failed"):
            return Text(text, how)
        return Text(text, None if text else "empty")

    def problem(self, reply: Reply, parsed: Text) -> Problem | None:
        if parsed.error is None:
            return None
        return Problem(parsed.error, f"are {parsed.error}", "check the model, its token limit and the prompt")
