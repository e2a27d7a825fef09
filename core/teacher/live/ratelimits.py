"""What a server's rate limit headers say, as numbers."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Literal

Kind = Literal["requests", "tokens"]
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
# Below this share of its limit a server is taken to have this share left: the rate must not be 0.
_LEAST = 0.02
_NAMES: dict[Kind, tuple[str, ...]] = {
    "requests": (
        "x-ratelimit-{}-requests",
        "anthropic-ratelimit-requests-{}",
        "x-ratelimit-{}",
        "ratelimit-{}",
    ),
    "tokens": ("x-ratelimit-{}-tokens", "anthropic-ratelimit-tokens-{}", "x-tokenlimit-{}"),
}
"""Header names of a kind, with a place for limit, remaining and reset; the first that is complete counts."""
_BARE_WINDOW_S = 120.0
"""A header that names no kind may be about a day, over which a run must not be spread."""
_EPOCH_S, _EPOCH_MS = 1e9, 1e11
"""Resets above these are moments and not durations."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Of `limit` units, `remaining` are left, and all of them again in `reset_s` seconds."""

    limit: float | None
    remaining: float
    reset_s: float

    @property
    def rate(self) -> float | None:
        """Units a second that what is left can stand until the reset; None: as many as one likes.

        Right for a server that counts in fixed windows: the rest is spread over the window. Of a
        server that refills all the time it asks to stay above half its limit and lets through, in
        balance, exactly what it refills; so the two need not be told apart.
        """
        if self.reset_s <= 0:
            return None
        return max(self.remaining, _LEAST * (self.limit or 0), 1.0) / self.reset_s


def read_rate_limit(
    headers: Mapping[str, str], kind: Kind, now: dt.datetime | None = None
) -> RateLimit | None:
    """The limit of a kind, in the header names of OpenAI, Anthropic or Together; None where there is none, or
    nonsense. A moment is compared with the response's own Date, else with `now`.
    """
    lower = {name.lower(): value.strip() for name, value in headers.items()}
    for name in _NAMES[kind]:
        limit, remaining = (
            _number(lower.get(name.format("limit"))),
            _number(lower.get(name.format("remaining"))),
        )
        reset = reset_seconds(lower.get(name.format("reset"), ""), server_time(lower, now))
        longest = _BARE_WINDOW_S if name.endswith("ratelimit-{}") else math.inf
        # Some servers say -1 or a limit of 0 where they mean that there is none.
        if remaining is None or remaining < 0 or reset is None or limit == 0 or reset > longest:
            continue
        return RateLimit(limit, remaining, reset)
    return None


def exhausted_for(headers: Mapping[str, str], now: dt.datetime | None = None) -> float | None:
    """Seconds until every limit of which nothing remains is reset; None where none is used up."""
    lower = {name.lower(): value.strip() for name, value in headers.items()}
    resets = [
        reset_seconds(lower.get(name.format("reset"), ""), server_time(lower, now))
        for names in _NAMES.values()
        for name in names
        if _number(lower.get(name.format("remaining"))) == 0
    ]
    return max((reset for reset in resets if reset is not None), default=None)


def reset_seconds(text: str, now: dt.datetime) -> float | None:
    """Seconds until a reset: a duration, or a moment as an HTTP date, RFC 3339, or Unix seconds or ms."""
    plain = seconds(text)
    if plain is not None and plain >= _EPOCH_S:
        return max(0.0, plain / (1000 if plain >= _EPOCH_MS else 1) - now.timestamp())
    if plain is not None:
        return plain
    moment = date(text)
    return None if moment is None else max(0.0, (moment - now).total_seconds())


def server_time(lower: Mapping[str, str], now: dt.datetime | None = None) -> dt.datetime:
    """The response's own Date, since the server's clock is not ours; else `now`, else the present."""
    return date(lower.get("date", "")) or now or dt.datetime.now(dt.UTC)


def date(text: str) -> dt.datetime | None:
    """An HTTP date or RFC 3339; None for other texts."""
    for read in (parsedate_to_datetime, dt.datetime.fromisoformat):
        try:
            moment = read(text)
        except ValueError:
            continue
        return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return None


def seconds(text: str) -> float | None:
    """A duration as OpenAI writes it ("1s", "6m0s", "120ms"), or plain seconds; None: neither."""
    text = text.strip()
    plain = _number(text)
    if plain is not None:
        return plain if plain >= 0 else None
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None
