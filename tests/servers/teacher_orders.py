"""What the teacher's server can be told, and what it tells: the words of its control endpoint."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Refusal = Literal[
    "server_error",  # 500
    "bad_gateway",  # 502, a page of HTML
    "unavailable",  # 503, as DeepSeek words it
    "unauthorized",  # 401
    "no_balance",  # 402, as DeepSeek words it
    "forbidden",  # 403
    "unknown_model",  # 404
    "no_quota",  # 429 insufficient_quota, which no waiting mends
    "rate_limited",  # 429 without a header: the hidden limit, told by hand
    "too_long",  # 400 context_length_exceeded
    "prompt_filtered",  # 400 content_filter
    "no_schema",  # 400 for json_schema, as OpenAI words it
    "schema_unavailable",  # 400 for json_schema, as DeepSeek words it
    "no_response_format",  # 400 for json_schema and json_object
    "format_rejected",  # `status` and `content` as the message, for the formats named in `formats`
]
"""Answered by a status other than 200; nothing is billed."""

Change = Literal[
    "length",  # finish_reason length, the content cut in the middle
    "broken_json",  # content that is no JSON, finish_reason stop
    "content_filter",  # finish_reason content_filter, empty content
    "overloaded",  # finish_reason insufficient_system_resource (DeepSeek's), the content cut
    "empty_content",  # finish_reason stop, content ""
    "empty_choices",  # choices []
    "no_usage",  # no count of tokens
    "written",  # `content` and `finish_reason`, whatever the text
    "schema_ignored",  # response_format is passed over: prose around fenced JSON
]
"""A whole reply with status 200 and another content than the model's; billed."""

Delivery = Literal[
    "disconnect",  # closed before the work: no reply, not billed
    "reset",  # the same by RST
    "disconnect_billed",  # closed after the work, before the first byte: billed
    "disconnect_midway",  # closed after half of the body: billed
    "broken_body",  # 200 and application/json, but no JSON; billed
    "html_page",  # 200 and a page of HTML; billed
    "drip",  # the body in small pieces over `seconds`; billed
    "blank_lines",  # line breaks over `seconds` before the body, as DeepSeek sends under load; billed
]
"""What happens to the connection or to the body's bytes."""

FaultKind = Refusal | Change | Delivery


class Told(BaseModel):
    """Frozen, and a misspelt name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Fault(Told):
    """One way to fail, and which requests it hits."""

    kind: FaultKind
    rate: float = 1.0
    """Share of the requests it hits, drawn from text and number of asking: no order changes it."""
    first: int | None = None
    """Hits only so many requests, then ends; None: until told otherwise."""
    ids: frozenset[str] | None = None
    """Hits only these texts."""
    seconds: float = 1.0
    """How long drip and blank_lines take."""
    status: int = 400
    """Of format_rejected."""
    code: str | None = None
    """The error code of format_rejected."""
    formats: frozenset[str] = frozenset({"json_schema"})
    """Which output formats format_rejected hits; a plain request's is text."""
    content: str = ""
    """The message of format_rejected, and what is written."""
    finish_reason: str = "stop"
    """Of written."""
    retry_after: str | None = None
    """The Retry-After header of a refusal, as it is sent."""
    seed: int = 0


class Delay(Told):
    """How long the work of one request takes, in seconds."""

    tail: Literal["fixed", "lognormal", "pareto"] = "fixed"
    seconds: float = 0.0
    """The time itself; lognormal: the median; pareto: the minimum."""
    spread: float = 1.0
    """lognormal: sigma; pareto: alpha, the smaller the heavier."""
    seed: int = 0


class Limit(Told):
    """Token buckets, full at first; a request that is refused takes nothing."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    """Of prompt and completion together, both counted when the request arrives."""
    burst_s: float = 60.0
    """A bucket holds what so many seconds bring, but at least one request."""
    retry_after: Literal["seconds", "milliseconds", "date", "none"] = "seconds"
    hidden: bool = False
    """429 without any header, and no x-ratelimit headers on answers."""


class Prices(Told):
    """Money per million tokens."""

    prompt: float = 0.0
    cached: float = 0.0
    completion: float = 0.0


class Orders(Told):
    """How the server behaves now. Of `faults`, the first that hits a request counts."""

    delay: Delay = Delay()
    limit: Limit | None = None
    capacity: int | None = None
    """Works on so many requests at once; the others wait, without 429."""
    faults: tuple[Fault, ...] = ()


class Settings(Told):
    """What a server is started with."""

    texts: str | None = None
    """A JSON-lines file of {id, text, answers}; see teacher_answers."""
    frames: tuple[tuple[str, str], ...] = ()
    """What stands before and after the text in the user message, where the caller knows it."""
    api_key: str | None = None
    """The only key let in; None: any."""
    models: tuple[str, ...] = ()
    """The only models there are; empty: any."""
    prices: Prices = Prices()
    reasoning_content: bool = False
    """Replies carry reasoning_content beside content, which is billed too."""
    port: int = 0


class TextCount(Told):
    """How often one text was asked, and what it cost; `failed` is by status or "disconnected"."""

    received: int
    answered: int
    billed: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    failed: dict[str, int]


class Totals(Told):
    """All requests together.

    answered: a whole 200 was handed to a connection that was still open. billed: the work was
    done, whether or not the client heard of it.
    """

    texts: int
    received: int
    answered: int
    billed: int
    in_flight: int
    most_in_flight: int
    statuses: dict[str, int]
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    """Part of prompt_tokens."""
    money: float


class Counts(Told):
    """Totals and each text by its id."""

    totals: Totals
    texts: dict[str, TextCount]


class Seen(Told):
    """One of the latest requests as it came."""

    id: str
    headers: dict[str, str]
    body: dict[str, object]
