"""What a live teacher replied to one request, as it is kept: one line of JSON."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Iterable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Literal, NamedTuple

from pydantic_core import from_json

from core import jsonio
from core.completions.request import KEY_DIGITS

Ending = Literal["complete", "unstated", "truncated", "filtered", "failed", "unknown"]
"""How an answer ended. `unstated`: the server gave no finish reason, so that only the content can show
whether the answer is complete; `failed`: the server broke it off; `unknown`: no list here has the reason."""

_ENDINGS: tuple[tuple[Ending, str], ...] = (
    (
        "complete",
        """stop eos eos_token eos_found eosfound end_turn end_of_turn stop_sequence stop_string
        stopstringfound stop_token complete completed finished tool_calls tool_call tool_use function_call""",
    ),
    (
        "truncated",
        """length max_tokens max_length max_output_tokens max_new_tokens model_length max_len
        model_context_window_exceeded context_length_exceeded token_limit maxpredictedtokensreached
        contextlengthreached""",
    ),
    (
        "filtered",
        """content_filter content_filtered refusal sensitive safety recitation blocklist prohibited_content
        spii image_safety guardrail_intervened moderation error_toxic language""",
    ),
    (
        "failed",
        """error abort aborted cancelled canceled timeout time_limit network_error
        insufficient_system_resource other malformed_function_call unexpected_tool_call""",
    ),
    ("unstated", "null none"),
)
_ENDING_OF: dict[str, Ending] = {name: found for found, names in _ENDINGS for name in names.split()}


def ending(finish_reason: str | None) -> Ending:
    """What a finish reason means, in the spellings of all servers: letter case, the prefixes FINISH_REASON_
    and REASON_, and details after a colon do not matter.
    """
    name = (finish_reason or "").partition(":")[0].strip().lower().replace("-", "_")
    name = name.removeprefix("finish_").removeprefix("reason_").removeprefix("finishreason.")
    return _ENDING_OF.get(name, "unknown") if name else "unstated"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that was paid for. `run` paid it, `key` is its request's, `at` is ISO 8601 in UTC.

    A failure that was paid for is stored too: its finish reason states it, and its key belongs to no request.

    `model` is what the server called itself. Counts of tokens are None where the server gave none;
    `cached_tokens` are among `prompt_tokens`. The fields with a default are None in lines of version 0.1.
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
    """The output format settled for the endpoint; `output_format` is a simpler one where it was rejected."""
    prompt_digest: str | None = None
    """Identifies endpoint, model and prompt without the text; see core.completions.context."""
    reserved_prompt_tokens: int | None = None
    """What the budget counts of an answer without token counts: what was reserved for it."""
    reserved_completion_tokens: int | None = None


class Setup(NamedTuple):
    """What makes all answers unusable in the same way: endpoint, model and prompt, token limit and format."""

    prompt_digest: str
    max_tokens: int
    settled_format: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used: replies, and the sums of their tokens. `unmetered` replies had no token counts; what was
    reserved in the budget for these is in `reserved_prompt_tokens` and `reserved_completion_tokens`.
    """

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    unmetered: int = 0
    reserved_prompt_tokens: int = 0
    reserved_completion_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(a + b for a, b in zip(_numbers(self), _numbers(other), strict=True)))


class Tally:
    """A usage that grows."""

    __slots__ = ("_sums",)

    def __init__(self) -> None:
        self._sums = [0] * 7

    def count(self, entry: Entry) -> None:
        """Add one reply."""
        sums, unmetered = self._sums, entry.prompt_tokens is None or entry.completion_tokens is None
        sums[0] += 1
        sums[1] += entry.prompt_tokens or 0
        sums[2] += entry.cached_tokens or 0
        sums[3] += entry.completion_tokens or 0
        if unmetered:
            sums[4] += 1
            sums[5] += entry.reserved_prompt_tokens or 0
            sums[6] += entry.reserved_completion_tokens or 0

    def usage(self) -> Usage:
        """The sums so far."""
        return Usage(*self._sums)


class Entry(NamedTuple):
    """Of a reply's line, what an index holds. `at` is in seconds since 1970."""

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
    """In a line of version 0.1 that answers a first attempt, the text's id."""
    is_answer: bool
    """False for a reply that failed, by its finish reason: it was paid for and answers nothing."""


class Line(NamedTuple):
    """A reply as it is written, and what an index keeps of it."""

    data: bytes
    entry: Entry


_FIELDS = tuple(f.name for f in dataclasses.fields(Reply) if f.default is dataclasses.MISSING)
_LATER = tuple(f.name for f in dataclasses.fields(Reply) if f.default is None)
"""Fields that lines of version 0.1 lack."""
_values = itemgetter(*_FIELDS)
_COUNT = (int, type(None))
_COUNTS = (
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "reserved_prompt_tokens",
    "reserved_completion_tokens",
)


def to_line(reply: Reply) -> bytes:
    """Return the reply's line. Raises ValueError for NaN, and for an invalid key or time."""
    return encode(reply).data


def encode(reply: Reply) -> Line:
    """Return the reply's line with its index entry. Raises ValueError as `to_line` does."""
    row = jsonio.as_row(reply)
    # A model's text may contain half a surrogate pair, which json.loads takes back from bytes.
    return Line(jsonio.line(row).encode("utf-8", "surrogatepass"), _entry(row))


def from_line(line: bytes) -> Reply:
    """Raises ValueError for a line that holds no reply; fields of later versions are left out."""
    row = _row(line)
    return Reply(*_values(row), *map(row.get, _LATER))


def entry(line: bytes) -> Entry:
    """Raises ValueError as `from_line` does."""
    return _entry(_row(line))


def total(tallies: Iterable[Tally]) -> Usage:
    """All of them together."""
    return sum((t.usage() for t in tallies), Usage())


def _row(line: bytes) -> dict[str, Any]:
    try:
        row = from_json(line, cache_strings="keys")  # a third of the time of json's
    except ValueError:
        row = json.loads(line)  # it also takes half a surrogate pair
    try:
        _values(row)
    except (KeyError, TypeError) as e:
        raise ValueError("it holds no reply") from e
    found: dict[str, Any] = row
    return found


def _entry(row: dict[str, Any]) -> Entry:
    try:
        key, at, run = bytes.fromhex(row["key"]), dt.datetime.fromisoformat(row["at"]), row["run"]
    except TypeError as e:
        raise ValueError(str(e)) from e
    counts = tuple(map(row.get, _COUNTS))
    if len(key) != KEY_DIGITS // 2 or at.tzinfo is None or type(run) is not str:
        raise ValueError("its key, time or run is none")
    if any(type(count) not in _COUNT for count in counts):
        raise ValueError("its token counts are not integers")
    setup = _setup(row)
    first_of = str(row["example_id"]) if setup is None and row["attempt"] == 0 else None
    finish_reason = row["finish_reason"]
    is_answer = not isinstance(finish_reason, str) or ending(finish_reason) != "failed"
    return Entry._make(
        (key, at.timestamp(), run, *counts, str(row["output_format"]), setup, first_of, is_answer)
    )


def _setup(row: dict[str, Any]) -> Setup | None:
    prompt, limit, settled = row.get("prompt_digest"), row.get("max_tokens"), row.get("settled_format")
    if type(prompt) is str and type(limit) is int and type(settled) is str:
        return Setup(prompt, limit, settled)
    return None


def _numbers(usage: Usage) -> list[int]:
    return [getattr(usage, f.name) for f in dataclasses.fields(usage)]
