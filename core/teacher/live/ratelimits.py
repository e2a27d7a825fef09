"""What a server's x-ratelimit headers say, as numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["requests", "tokens"]
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
# Below this share of its limit a server is taken to have this share left: the rate must not be 0.
_LEAST = 0.02


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


def read_rate_limit(headers: Mapping[str, str], kind: Kind) -> RateLimit | None:
    """The limit of a kind, in OpenAI's header names; None where it is not said, or nonsense."""
    lower = {name.lower(): value for name, value in headers.items()}
    limit = _number(lower.get(f"x-ratelimit-limit-{kind}"))
    remaining = _number(lower.get(f"x-ratelimit-remaining-{kind}"))
    reset = seconds(lower.get(f"x-ratelimit-reset-{kind}", ""))
    # Some servers say -1 or a limit of 0 where they mean that there is none.
    if remaining is None or remaining < 0 or reset is None or limit == 0:
        return None
    return RateLimit(limit, remaining, reset)


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
