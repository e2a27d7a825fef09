"""Stored replies of an endpoint: one line of JSON each, and what an index keeps of a line."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Literal, NamedTuple

from pydantic_core import from_json

from core import jsonio

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


@dataclass(frozen=True, slots=True)
class Reply:
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
    """Identifies endpoint, model and prompt without the text; see core.completions.context."""
    reserved_prompt_tokens: int | None = None
    """What the budget counts for a reply without token counts: the amount reserved for it."""
    reserved_completion_tokens: int | None = None


class Setup(NamedTuple):
    """What makes all answers unusable in the same way: endpoint, model and prompt, token limit and format."""

    prompt_digest: str
    max_tokens: int
    settled_format: str


class Entry(NamedTuple):
    """What an index keeps of a line. `at` is in seconds since 1970."""

    key: bytes
    at: float
    run: str
    prompt_tokens: int | None
    cached_tokens: int | None
    completion_tokens: int | None
    reserved_prompt_tokens: int | None
    reserved_completion_tokens: int | None
    output_format: str
    setup: Setup | None
    """None in lines of version 0.1."""
    first_of: str | None
    """The text's id, in a line of version 0.1 that answers a first attempt."""
    is_answer: bool
    """False for a failed reply, which was billed and answers nothing."""


@dataclass(slots=True)
class ReplyUsage:
    """Sums over replies. `unmetered` replies had no token counts; what the budget reserved for these is in
    `reserved_prompt_tokens` and `reserved_completion_tokens`.
    """

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    unmetered: int = 0
    reserved_prompt_tokens: int = 0
    reserved_completion_tokens: int = 0

    def add(self, entry: Entry) -> None:
        self.requests += 1
        self.prompt_tokens += entry.prompt_tokens or 0
        self.cached_tokens += entry.cached_tokens or 0
        self.completion_tokens += entry.completion_tokens or 0
        if entry.prompt_tokens is None or entry.completion_tokens is None:
            self.unmetered += 1
            self.reserved_prompt_tokens += entry.reserved_prompt_tokens or 0
            self.reserved_completion_tokens += entry.reserved_completion_tokens or 0


_FIRST_FIELDS = tuple(f.name for f in dataclasses.fields(Reply) if f.default is dataclasses.MISSING)
_LATER_FIELDS = tuple(f.name for f in dataclasses.fields(Reply) if f.default is None)
"""Fields that lines of version 0.1 lack."""
_first_values = itemgetter(*_FIRST_FIELDS)
_COUNTS = Entry._fields[3:8]


def encode(reply: Reply) -> tuple[bytes, Entry]:
    """Return the reply's line and its entry. Raises ValueError for NaN or an invalid key or time."""
    row = jsonio.as_row(reply)
    # A model's text may contain half a surrogate pair, which json.loads takes back from bytes.
    return jsonio.line(row).encode("utf-8", "surrogatepass"), _entry(row)


def from_line(line: bytes) -> Reply:
    """Raises ValueError for a line that contains no reply. Fields of later versions are ignored."""
    row = _row(line)
    return Reply(*_first_values(row), *map(row.get, _LATER_FIELDS))


def read_entry(line: bytes) -> Entry:
    """Raises ValueError as `from_line` does."""
    return _entry(_row(line))


def _row(line: bytes) -> dict[str, Any]:
    try:
        row: dict[str, Any] = from_json(line, cache_strings="keys")  # a third of the time of json's
    except ValueError:
        row = json.loads(line)  # also reads half a surrogate pair
    try:
        _first_values(row)
    except (KeyError, TypeError) as e:
        raise ValueError("the line contains no reply") from e
    return row


def _entry(row: dict[str, Any]) -> Entry:
    try:
        key, at, run = bytes.fromhex(row["key"]), dt.datetime.fromisoformat(row["at"]), row["run"]
    except TypeError as e:
        raise ValueError(str(e)) from e
    counts = tuple(map(row.get, _COUNTS))
    if len(key) != KEY_DIGITS // 2 or at.tzinfo is None or type(run) is not str:
        raise ValueError("its key, time or run is invalid")
    if any(type(count) not in (int, type(None)) for count in counts):
        raise ValueError("its token counts are not integers")
    prompt, limit, settled = row.get("prompt_digest"), row.get("max_tokens"), row.get("settled_format")
    setup = first_of = None
    if type(prompt) is str and type(limit) is int and type(settled) is str:
        setup = Setup(prompt, limit, settled)
    elif row["attempt"] == 0:
        first_of = str(row["example_id"])
    reason = row["finish_reason"]
    is_answer = not isinstance(reason, str) or ending(reason) != "failed"
    return Entry._make(
        (key, at.timestamp(), run, *counts, str(row["output_format"]), setup, first_of, is_answer)
    )
