"""Classify a failed request by status and error code: retry it, stop everything, or give up this text only.

The message decides only for a 400, 403 or 422 without a code that does. Limits and waits are read from the
headers, in the names of all servers.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from core.config import Endpoint
from core.errors import TeacherRefused

if TYPE_CHECKING:
    from core.completions.client import TokenCounts

Kind = Literal["retry", "refused", "bad_request", "format_unsupported"]
Cause = Literal["key", "account", "model", "text", "rate", "server", "unknown"]

OVERLOAD_STATUSES = frozenset({429, 503, 529})
_FORMAT_STATUSES = frozenset({400, 404, 422, 500, 501})
"""Statuses with which servers reject an output format that they do not implement."""
_RETRIED = frozenset({408, 409, 425, 429})

_CODES: Mapping[tuple[Cause, int], str] = {
    ("account", 402): """insufficient_quota insufficient_balance insufficient_funds insufficient_credits
        insufficient_credit payment_required credit_balance_exhausted billing_error billing_not_active
        billing_hard_limit_reached budget_exceeded access_terminated account_deactivated account_suspended""",
    ("key", 401): """invalid_api_key incorrect_api_key api_key_invalid missing_api_key no_api_key expired_key
        authentication authentication_error invalid_authentication invalid_authentication_error unauthorized
        unauthenticated auth_error token_not_found_in_db key_model_access_denied permission_denied
        permission_error""",
    ("text", 400): """content_filter content_policy_violation moderation moderation_blocked
        responsibleaipolicyviolation data_inspection_failed context_length_exceeded string_above_max_length
        exceed_context_size_error""",
    ("model", 404): """model_not_found deploymentnotfound invalid_model unknown_model not_found
        not_found_error notfounderror""",
    ("rate", 429): """rate_limit_exceeded rate_limit_error rate_limited rate_limit slow_down ratelimiterror
        too_many_requests resource_exhausted throttling_error""",
    ("server", 503): """overloaded_error overloaded server_is_overloaded service_unavailable
        service_unavailable_error unavailable insufficient_system_resource""",
    ("server", 500): """server_error internal_server_error internal_error api_error internal
        internalservererror network_error""",
    ("unknown", 400): "invalid_request_error bad_request badrequesterror invalid_argument invalid_parameter",
}
"""What error codes mean, the first that fits, and the HTTP status that each replaces in a body with 200."""
_MEANINGS = tuple((cause, status, frozenset(codes.split())) for (cause, status), codes in _CODES.items())

_CAUSE_OF_STATUS: Mapping[int | None, Cause] = {
    401: "key",
    402: "account",
    403: "account",
    404: "model",
    412: "account",  # Fireworks: a suspended account
    429: "rate",
}
_CAUSE_OF_WORDS: Mapping[Cause, str] = {
    "account": r"insufficient[_ ](quota|balance|funds|credits?)|billing|payment required"
    r"|credit balance is too low|account.{0,20}(suspended|deactivated)",
    "key": r"(invalid|incorrect|missing)[_ ].{0,20}api[_ ]key|api[_ ]key (is )?not valid",
    "model": r"model.{0,80}(not exist|not found|unknown)|unknown model",
}
_FORMAT = re.compile(r"response_format|json_schema|json_object|structured output|text\.format", re.IGNORECASE)
_MODERATED = re.compile(r"moderation|flagged|content[_ ](filter|policy|management)", re.IGNORECASE)


class CallError(Exception):
    """A request without a usable reply. `status` is None if the connection failed, 200 if a reply came
    without an error status; `code` contains the error's codes, separated by spaces. `headers` are in small
    letters, and include those in the error itself: a router's upstream limits, or a wait.

    `counted` is what the failed reply used all the same; None if it does not state that.
    """

    def __init__(
        self,
        message: str,
        status: int | None = None,
        code: str = "",
        headers: Mapping[str, str] | None = None,
        counted: TokenCounts | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.status, self.code, self.headers = message, status, code, headers or {}
        self.counted = counted

    @property
    def words(self) -> str:
        """Status, first code and the server's own words, in one line."""
        number = "no answer" if self.status is None else f"HTTP {self.status}"
        shown = " ".join(f"{self.code.partition(' ')[0]} {self.message}".split())
        return f"{number}: {shown}"[:500] if shown else number

    @cached_property
    def kind(self) -> Kind:
        """retry: it may pass; refused: stop everything; bad_request: this text fails, others may not;
        format_unsupported: ask without structured output. x-should-retry decides between the first and third.
        """
        status, cause, retry = self.status, self._cause, should_retry(self.headers)
        if status is None:
            kind: Kind = "retry"
        elif cause in ("key", "account", "model"):
            # Money first: it comes as 429, 403, 402 and 400, and waiting does not help.
            return "refused"
        elif cause != "text" and status in (400, 422) and _FORMAT.search(f"{self.code} {self.message}"):
            return "format_unsupported"
        else:
            may_pass = status in _RETRIED or status >= 500 or status < 400 or cause == "rate"
            kind = "retry" if may_pass and cause != "text" else "bad_request"
        return kind if retry is None else "retry" if retry else "bad_request"

    @property
    def slow_down(self) -> bool:
        """Whether the server is overloaded (429, or 503 and 529)."""
        return self.kind == "retry" and (self.status in OVERLOAD_STATUSES or self._cause == "rate")

    @property
    def maybe_format(self) -> bool:
        """Whether the request may have failed for its output format alone, whatever `kind` is.

        Ask in the next format, and act on `kind` only if a plain request fails too.
        """
        doubtful = self.status in _FORMAT_STATUSES and self._cause in ("unknown", "model", "server")
        return doubtful or self.kind == "format_unsupported"

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed another time."""
        return self.kind == "retry" and self.status != 501  # not implemented

    @cached_property
    def _cause(self) -> Cause:
        status, codes = self.status, {code.lower() for code in self.code.split()}
        named = next((cause for cause, _, known in _MEANINGS if codes & known and cause != "unknown"), None)
        if named == "account" or named == "text" or (named == "key" and status != 403):
            return named
        if status in (400, 403, 422) and _MODERATED.search(self.message):
            return "text"  # a filter that rejects one text may accept the others
        if status in _CAUSE_OF_STATUS:
            return _CAUSE_OF_STATUS[status]
        if named is None and status in (400, 422) and not _FORMAT.search(self.message):
            for cause, pattern in _CAUSE_OF_WORDS.items():
                if re.search(pattern, self.message, re.IGNORECASE):
                    return cause
        return named or ("server" if status is not None and status >= 500 else "unknown")


def refusal(error: CallError, endpoint: Endpoint) -> TeacherRefused:
    """Return the error that stops everything, with what to fix."""
    words, section, key_env = error.words.lower(), endpoint.section, endpoint.api_key_env
    if words.startswith("http 401") or "key" in words:
        remedy = (
            f"check the key in {key_env}" if key_env else f"name the key's variable in {section}.api_key_env"
        )
    elif words.startswith("http 404") or "model" in words:
        remedy = f"check {section}.model and {section}.base_url"
    else:
        remedy = "check the account's balance and what it may use"
    return TeacherRefused(
        f"{endpoint.base_url} refuses to answer as {endpoint.model} ({error.words}); {remedy}, and run "
        "the same command again: stored answers are not requested twice"
    )


def status_of_codes(codes: Sequence[str]) -> int | None:
    """Return the HTTP status that error codes mean: a number among them, else by name; None if unknown."""
    for code in codes:
        if code.isdecimal() and 400 <= int(code) <= 599:
            return int(code)
    lower = {code.lower() for code in codes}
    return next((status for _, status, known in _MEANINGS if lower & known), None)


_CODE_FIELDS = "code type status reason error_type error_code status_code http_code param"
_INNER_FIELDS = ("innererror", "inner_error", "metadata", "details", "detail", "error")
_MESSAGE_FIELDS = ("message", "msg", "detail", "error_description", "error")


def read_error(body: Any) -> CallError | None:
    """Read the body of a request that failed; None for a body without an error. Codes decide the status.

    The error is under `error`, or the body is a list of one (Gemini), or it is the body itself (vLLM).
    """
    if isinstance(body, list):
        body = body[0] if body else None
    if not isinstance(body, Mapping):
        return None
    if is_error(body.get("error")):
        return read_error_object(body["error"])
    is_bare = "choices" not in body and any(body.get(name) for name in ("message", "detail", "code"))
    return read_error_object(body) if is_bare else None


def is_error(value: Any) -> bool:
    """Return whether the value of an `error` field is an error: some servers always send it, empty."""
    if isinstance(value, Mapping):
        return any(value.values())
    return bool(value.strip() if isinstance(value, str) else value)


def read_error_object(error: Any) -> CallError:
    """Read an error object, a list of them (the first counts), or a text alone."""
    if isinstance(error, list):
        error = next((part for part in error if is_error(part)), "")
    if not isinstance(error, Mapping):
        return CallError(_line(str(error)))
    codes = list(dict.fromkeys(_codes(error)))
    metadata, details = error.get("metadata"), error.get("details")
    headers: dict[str, str] = {}
    for part in details if isinstance(details, list) else ():
        if isinstance(part, Mapping) and isinstance(part.get("retryDelay"), str):
            headers["retry-after"] = part["retryDelay"]  # Google's RetryInfo: "13s"
    raw = ""
    if isinstance(metadata, Mapping):  # of OpenRouter: the provider's own message and headers
        raw = _text(metadata.get("raw"))
        if isinstance(passed_on := metadata.get("headers"), Mapping):
            headers |= {str(name).lower(): str(value) for name, value in passed_on.items()}
        if isinstance(wait := metadata.get("retry_after_seconds"), int | float):
            headers["retry-after"] = str(wait)
    message = ": ".join(filter(None, (_text(error), raw)))
    return CallError(_line(message), status_of_codes(codes), " ".join(codes), headers)


def _codes(error: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    """Yield the codes of the object and of the objects in it, the outer ones first, without spaces."""
    for name in _CODE_FIELDS.split():
        value = error.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            yield re.sub(r"\s+", "_", str(value).strip())[:100]
    for name in _INNER_FIELDS if depth < 3 else ():
        inner = error.get(name)
        for part in inner if isinstance(inner, list) else [inner]:
            if isinstance(part, Mapping):
                yield from _codes(part, depth + 1)


def _text(value: Any) -> str:
    """A text, that of an object, or those of a list (FastAPI's validation errors)."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, Mapping):
        return next(filter(None, (_text(value.get(name)) for name in _MESSAGE_FIELDS)), "")
    return "; ".join(filter(None, map(_text, value))) if isinstance(value, list) else ""


def _line(text: str) -> str:
    """One line, without the tags of a page."""
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())[:300]


LimitKind = Literal["requests", "tokens"]
_NAMES: dict[LimitKind, tuple[str, ...]] = {
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
    headers: Mapping[str, str], kind: LimitKind, now: dt.datetime | None = None
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
