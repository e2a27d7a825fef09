"""What response headers say about limits and waits, in the names of all servers."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Literal

Kind = Literal["requests", "tokens"]

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
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
# Below this share of its limit a server is taken to have this share left: the rate must not be 0.
_LEAST_SHARE = 0.02
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
        """Units a second that what is left allows until the reset; None: any number.

        For a server that counts in fixed windows, the rest is spread over the window; for one that refills
        all the time, this settles at the rate at which it refills.
        """
        if self.reset_s <= 0:
            return None
        return max(self.remaining, _LEAST_SHARE * (self.limit or 0), 1.0) / self.reset_s


def read_rate_limit(
    headers: Mapping[str, str], kind: Kind, now: dt.datetime | None = None
) -> RateLimit | None:
    """Return the limit of a kind, in the header names of OpenAI, Anthropic or Together; None without a valid
    one. A moment is compared with the response's own Date, else with `now`.
    """
    lower = _lower(headers)
    for name in _NAMES[kind]:
        limit = _number(lower.get(name.format("limit")))
        remaining = _number(lower.get(name.format("remaining")))
        # Some servers send -1 or a limit of 0 for no limit.
        if remaining is None or remaining < 0 or limit == 0:
            continue
        reset = _reset_seconds(lower.get(name.format("reset"), ""), _server_time(lower, now))
        longest = _BARE_WINDOW_S if name.endswith("ratelimit-{}") else math.inf
        if reset is not None and reset <= longest:
            return RateLimit(limit, remaining, reset)
    return None


def retry_after(headers: Mapping[str, str], now: dt.datetime) -> float | None:
    """Return the seconds that a response asks to wait, 0 or more; None without a valid value.

    Reads retry-after-ms, then Retry-After as seconds or as a date (RFC 9110, 10.2.3), then the latest reset
    of a limit that is used up. A date is compared with the response's own Date, if it has one.
    """
    lower = _lower(headers)
    milliseconds = seconds(lower.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    server_time = _server_time(lower, now)
    asked = _reset_seconds(lower.get("retry-after", ""), server_time)
    if asked is not None:
        return asked
    resets = [
        _reset_seconds(lower.get(name.format("reset"), ""), server_time)
        for name in (*_NAMES["requests"], *_NAMES["tokens"])
        if _number(lower.get(name.format("remaining"))) == 0
    ]
    return max((reset for reset in resets if reset is not None), default=None)


def should_retry(headers: Mapping[str, str]) -> bool | None:
    """Return the value of the x-should-retry header; None without one."""
    return {"true": True, "false": False}.get(_lower(headers).get("x-should-retry", "").lower())


def seconds(text: str) -> float | None:
    """Read a duration as OpenAI writes it ("1s", "6m0s", "120ms"), or plain seconds; None: neither."""
    text = text.strip()
    plain = _number(text)
    if plain is not None:
        return plain if plain >= 0 else None
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _reset_seconds(text: str, now: dt.datetime) -> float | None:
    """Seconds until a reset: a duration, or a moment as an HTTP date, RFC 3339, or Unix seconds or ms."""
    plain = seconds(text)
    if plain is not None and plain >= _EPOCH_S:
        return max(0.0, plain / (1000 if plain >= _EPOCH_MS else 1) - now.timestamp())
    if plain is not None:
        return plain
    moment = _date(text)
    return None if moment is None else max(0.0, (moment - now).total_seconds())


def _server_time(lower: Mapping[str, str], now: dt.datetime | None) -> dt.datetime:
    """The response's own Date, since the server's clock may differ; else `now`, else the present."""
    return _date(lower.get("date", "")) or now or dt.datetime.now(dt.UTC)


def _date(text: str) -> dt.datetime | None:
    """Read an HTTP date or RFC 3339; None for other texts."""
    for read in (parsedate_to_datetime, dt.datetime.fromisoformat):
        try:
            moment = read(text)
        except ValueError:
            continue
        return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return None


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value.strip() for name, value in headers.items()}
