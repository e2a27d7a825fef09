"""Chat requests, the keys under which their replies are stored, the stored replies, and their parsers."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from operator import itemgetter
from types import NoneType
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar
from urllib.parse import urlsplit, urlunsplit

from pydantic_core import from_json

from core import jsonio
from core.config import Endpoint
from core.cost import Usage
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


KEY_DIGITS = 32

Ending = Literal["complete", "unstated", "truncated", "filtered", "failed", "unknown"]
"""How an answer ended. `unstated`: the server gave no finish reason, so that only the content can show
whether the answer is complete; `failed`: the server broke it off; `unknown`: no list here has the reason."""

_FINISH_REASONS: Mapping[Ending, str] = {
    "complete": """stop eos eos_token eos_found eosfound end_turn end_of_turn stop_sequence stop_string
        stopstringfound stop_token complete completed finished tool_calls tool_call tool_use function_call""",
    "truncated": """length max_tokens max_length max_output_tokens max_new_tokens model_length max_len
        model_context_window_exceeded context_length_exceeded token_limit maxpredictedtokensreached
        contextlengthreached""",
    "filtered": """content_filter content_filtered refusal sensitive safety recitation blocklist
        prohibited_content spii image_safety guardrail_intervened moderation error_toxic language""",
    "failed": """error abort aborted cancelled canceled timeout time_limit network_error
        insufficient_system_resource other malformed_function_call unexpected_tool_call""",
    "unstated": "null none",
}
_ENDING_OF = {name: ending for ending, names in _FINISH_REASONS.items() for name in names.split()}


def ending(finish_reason: str | None) -> Ending:
    """Return what a finish reason means, in the spellings of all servers.

    Letter case, the prefixes FINISH_REASON_ and REASON_, and details after a colon are ignored.
    """
    name = (finish_reason or "").partition(":")[0].strip().lower().replace("-", "_")
    name = name.removeprefix("finish_").removeprefix("reason_").removeprefix("finishreason.")
    return _ENDING_OF.get(name, "unknown") if name else "unstated"


class Setup(NamedTuple):
    """What makes all answers unusable in the same way: endpoint, model and prompt, token limit and format."""

    prompt_digest: str
    max_tokens: int
    settled_format: str


class Reply(NamedTuple):
    """A reply that `run` paid for. `key` is that of its request, `at` is ISO 8601 in UTC.

    Failures that are billed are stored too, with a finish reason that shows it and a key of no request.

    `model` is the name that the server gave. Token counts are None if the server sent none; `cached_tokens`
    are part of `prompt_tokens`. The fields with a default are None in lines of version 0.1.
    """

    key: str
    run: str
    example_id: str
    attempt: int
    temperature: float | None
    hinted: bool
    model: str
    raw_output: str
    reasoning_content: str | None
    finish_reason: str | None
    prompt_tokens: int | None
    cached_tokens: int | None
    completion_tokens: int | None
    latency_s: float
    output_format: str
    at: str
    max_tokens: int | None = None
    """The token limit of the request."""
    settled_format: str | None = None
    """The output format settled for the endpoint; `output_format` is a simpler one if it was rejected."""
    prompt_digest: str | None = None
    """Identifies endpoint, model and prompt without the text; see core.completions.request_context."""
    reserved_prompt_tokens: int | None = None
    """What the budget counts for a reply without token counts: the amount reserved for it."""
    reserved_completion_tokens: int | None = None

    @property
    def setup(self) -> Setup | None:
        """The setup of the request; None in lines of version 0.1."""
        if self.prompt_digest is None or self.max_tokens is None or self.settled_format is None:
            return None
        return Setup(self.prompt_digest, self.max_tokens, self.settled_format)

    @property
    def is_answer(self) -> bool:
        """False for a failed reply, which was billed and answers nothing."""
        return not isinstance(self.finish_reason, str) or ending(self.finish_reason) != "failed"


@dataclass(slots=True)
class ReplyUsage:
    """Sums over replies; the `reserved` ones are what the budget reserved for the `unmetered` replies."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    unmetered: int = 0
    reserved_prompt_tokens: int = 0
    reserved_completion_tokens: int = 0

    @property
    def budgeted(self) -> Usage:
        """What the replies count in a budget: what the server stated, else what was reserved."""
        prompt = self.prompt_tokens + self.reserved_prompt_tokens
        completion = self.completion_tokens + self.reserved_completion_tokens
        return Usage(prompt, completion, self.cached_tokens)

    def add(self, reply: Reply) -> None:
        self.requests += 1
        self.prompt_tokens += reply.prompt_tokens or 0
        self.cached_tokens += reply.cached_tokens or 0
        self.completion_tokens += reply.completion_tokens or 0
        if reply.prompt_tokens is None or reply.completion_tokens is None:
            self.unmetered += 1
            self.reserved_prompt_tokens += reply.reserved_prompt_tokens or 0
            self.reserved_completion_tokens += reply.reserved_completion_tokens or 0


_LATER_FIELDS = tuple(Reply._field_defaults)
_first_values = itemgetter(*(name for name in Reply._fields if name not in Reply._field_defaults))


def encode_reply(reply: Reply) -> bytes:
    """Return the reply's line. Raises ValueError for NaN or an invalid key or time."""
    _check(reply)
    # A model's text may contain half a surrogate pair, which json.loads takes back from bytes.
    return jsonio.line(reply._asdict()).encode("utf-8", "surrogatepass")


def decode_reply(line: bytes) -> Reply:
    """Raises ValueError for a line that contains no reply. Fields of later versions are ignored."""
    try:
        row: dict[str, Any] = from_json(line, cache_strings="keys")  # a third of the time of json's
    except ValueError:
        row = json.loads(line)  # also reads half a surrogate pair
    try:
        reply = Reply(*_first_values(row), *map(row.get, _LATER_FIELDS))
    except (KeyError, TypeError) as e:
        raise ValueError("the line contains no reply") from e
    _check(reply)
    return reply


def _check(reply: Reply) -> None:
    """Raise ValueError for a reply that could not be found or counted."""
    try:
        key, at = bytes.fromhex(reply.key), dt.datetime.fromisoformat(reply.at)
    except TypeError as e:
        raise ValueError(str(e)) from e
    if len(key) != KEY_DIGITS // 2 or at.tzinfo is None or type(reply.run) is not str:
        raise ValueError("its key, time or run is invalid")
    counts = (*reply[10:13], reply.max_tokens, *reply[19:])
    if not {int, NoneType}.issuperset(map(type, counts)):
        raise ValueError("its token counts are not integers")
    names = (reply.output_format, reply.settled_format, reply.prompt_digest)
    if not {str, NoneType}.issuperset(map(type, names)):
        raise ValueError("its format or prompt is invalid")
