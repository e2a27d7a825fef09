"""Classify a failed request: retry it, stop everything, or give up this text only.

Status and error code decide. The message decides only for a 400, 403 or 422 without a code that does: several
servers report a missing model or an empty account with nothing but an English sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["retry", "refused", "bad_request", "format_unsupported"]
Cause = Literal["key", "account", "model", "text", "rate", "server", "unknown"]

FORMAT_STATUSES = frozenset({400, 404, 422, 500, 501})
"""Statuses with which servers reject an output format that they do not implement."""
_RETRIED = frozenset({408, 409, 425, 429})
_OVERLOADED = frozenset({429, 503, 529})
_SHOWN = 500


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_KEY_CODES = _names(
    """invalid_api_key incorrect_api_key api_key_invalid missing_api_key no_api_key expired_key authentication
    authentication_error invalid_authentication invalid_authentication_error unauthorized unauthenticated
    auth_error token_not_found_in_db key_model_access_denied permission_denied permission_error"""
)
_ACCOUNT_CODES = _names(
    """insufficient_quota insufficient_balance insufficient_funds insufficient_credits insufficient_credit
    payment_required credit_balance_exhausted billing_error billing_not_active billing_hard_limit_reached
    budget_exceeded access_terminated account_deactivated account_suspended"""
)
_MODEL_CODES = _names(
    "model_not_found deploymentnotfound invalid_model unknown_model not_found not_found_error notfounderror"
)
_TEXT_CODES = _names(
    """content_filter content_policy_violation moderation moderation_blocked responsibleaipolicyviolation
    data_inspection_failed context_length_exceeded string_above_max_length
    exceed_context_size_error"""
)
_RATE_CODES = _names(
    """rate_limit_exceeded rate_limit_error rate_limited rate_limit slow_down ratelimiterror too_many_requests
    resource_exhausted throttling_error"""
)
_OVERLOAD_CODES = _names(
    """overloaded_error overloaded server_is_overloaded service_unavailable service_unavailable_error
    unavailable insufficient_system_resource"""
)
_SERVER_CODES = _names(
    "server_error internal_server_error internal_error api_error internal internalservererror network_error"
)
_REQUEST_CODES = _names(
    "invalid_request_error bad_request badrequesterror invalid_argument invalid_parameter"
)
_CODES: tuple[tuple[Cause, frozenset[str], int], ...] = (
    ("account", _ACCOUNT_CODES, 402),
    ("key", _KEY_CODES, 401),
    ("text", _TEXT_CODES, 400),
    ("model", _MODEL_CODES, 404),
    ("rate", _RATE_CODES, 429),
    ("server", _OVERLOAD_CODES, 503),
    ("server", _SERVER_CODES, 500),
    ("unknown", _REQUEST_CODES, 400),
)
"""What a code means, the first that fits, and the HTTP status that it replaces in a body sent with 200."""

_CAUSES: dict[int | None, Cause] = {
    401: "key",
    402: "account",
    403: "account",
    404: "model",
    412: "account",  # Fireworks: a suspended account
    429: "rate",
}

_NO_MONEY = re.compile(
    r"insufficient[_ ](quota|balance|funds|credits?)|billing|payment required|credit balance is too low"
    r"|account.{0,20}(suspended|deactivated)",
    re.IGNORECASE,
)
_NO_ENTRY = re.compile(
    r"(invalid|incorrect|missing)[_ ].{0,20}api[_ ]key|api[_ ]key (is )?not valid", re.IGNORECASE
)
_NO_MODEL = re.compile(r"model.{0,80}(not exist|not found|unknown)|unknown model", re.IGNORECASE)
_WORDS: tuple[tuple[Cause, re.Pattern[str]], ...] = (
    ("account", _NO_MONEY),
    ("key", _NO_ENTRY),
    ("model", _NO_MODEL),
)
_FORMAT = re.compile(r"response_format|json_schema|json_object|structured output|text\.format", re.IGNORECASE)
_MODERATED = re.compile(r"moderation|flagged|content[_ ](filter|policy|management)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """What to do about a failed request, and the server's own words."""

    kind: Kind
    """retry: it may pass; refused: stop everything; bad_request: this text fails, others may not;
    format_unsupported: ask without structured output."""
    words: str
    slow_down: bool = False
    """Whether the server is asked too much (429, or 503 and 529 for overload)."""
    cause: Cause = "unknown"
    """What the failure is about, where status, code or message say so."""
    maybe_format: bool = False
    """Whether the request may have failed for its output format alone, whatever `kind` is: ask in the next
    format, and act on `kind` only where a plain request fails too. Never True for key, account or rate."""


def classify(
    status: int | None, code: str | None = None, message: str = "", should_retry: bool | None = None
) -> RetryDecision:
    """Judge a failure by HTTP status (None: no answer came), error codes and message.

    `code` holds the codes, types and reasons of the error, separated by spaces. `should_retry` is the
    server's x-should-retry, which decides between retry and bad_request.
    """
    codes = (code or "").split()
    shown = " ".join(part for part in (code and codes[0], message) if part)
    cause = _cause(status, codes, message)
    kind = _kind(status, cause, f"{code or ''} {message}")
    if should_retry is not None and kind in ("retry", "bad_request"):
        kind = "retry" if should_retry else "bad_request"
    number = "no answer" if status is None else f"HTTP {status}"
    words = f"{number}: {' '.join(shown.split())}" if shown.strip() else number
    return RetryDecision(
        kind,
        words[:_SHOWN],
        slow_down=kind == "retry" and (status in _OVERLOADED or cause == "rate"),
        cause=cause,
        maybe_format=kind == "format_unsupported"
        or (status in FORMAT_STATUSES and cause in ("unknown", "model", "server")),
    )


def status_of_codes(codes: list[str]) -> int | None:
    """The HTTP status that error codes stand for: a number among them, else by name; None if unknown."""
    for code in codes:
        if code.isdecimal() and 400 <= int(code) <= 599:
            return int(code)
    lower = {code.lower() for code in codes}
    return next((status for _, known, status in _CODES if lower & known), None)


def _cause(status: int | None, codes: list[str], message: str) -> Cause:
    lower = {code.lower() for code in codes}
    named = next((cause for cause, known, _ in _CODES if lower & known and cause != "unknown"), None)
    if named == "account" or named == "text" or (named == "key" and status != 403):
        return named
    if status in (400, 403, 422) and _MODERATED.search(message):
        # A filter that rejects one text may accept the others.
        return "text"
    if status in _CAUSES:
        return _CAUSES[status]
    if named is None and status in (400, 422):
        return _worded(message)
    return named or ("server" if status is not None and status >= 500 else "unknown")


def _worded(message: str) -> Cause:
    """Return the cause that a message names, where neither status nor code does."""
    if _FORMAT.search(message):
        return "unknown"
    return next((cause for cause, pattern in _WORDS if pattern.search(message)), "unknown")


def _kind(status: int | None, cause: Cause, shown: str) -> Kind:
    if status is None:
        return "retry"
    if cause == "text":
        return "bad_request"
    # Money first: it comes as 429, 403, 402 and 400, and waiting does not help.
    if cause in ("key", "account", "model"):
        return "refused"
    if status in (400, 422) and _FORMAT.search(shown):
        return "format_unsupported"
    return (
        "retry" if status in _RETRIED or status >= 500 or status < 400 or cause == "rate" else "bad_request"
    )


_CODE_FIELDS = (
    "code",
    "type",
    "status",
    "reason",
    "error_type",
    "error_code",
    "status_code",
    "http_code",
    "param",
)
_MESSAGE_FIELDS = ("message", "msg", "detail", "error_description", "error")
_MESSAGE_SHOWN = 300
_DEEPEST = 3


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """The content of an error object. `status` is the HTTP status that its codes mean; None where unknown."""

    message: str
    codes: tuple[str, ...] = ()
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers in small letters that the object itself carries: a router's upstream limits, or a wait."""


def read_error(body: Any) -> ErrorBody | None:
    """Read the body of a request that failed; None for a body without an error.

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
    """Whether the value of an `error` field is an error: some servers always send the field, empty."""
    if isinstance(value, Mapping):
        return any(value.values())
    return bool(value.strip() if isinstance(value, str) else value)


def read_error_object(error: Any) -> ErrorBody:
    """Read an error object, a list of them (the first counts), or a text alone."""
    if isinstance(error, list):
        error = next((part for part in error if is_error(part)), "")
    if not isinstance(error, Mapping):
        return ErrorBody(_line(str(error)))
    codes = tuple(dict.fromkeys(_codes(error)))
    return ErrorBody(_message(error), codes, status_of_codes(list(codes)), _headers(error))


def _message(error: Mapping[str, Any]) -> str:
    texts = [_text(error.get(name)) for name in _MESSAGE_FIELDS]
    metadata = error.get("metadata")
    # OpenRouter's own message is the same for all; the provider's is here.
    raw = _text(metadata.get("raw")) if isinstance(metadata, Mapping) else ""
    shown = next(filter(None, texts), "")
    return _line(": ".join(filter(None, (shown, raw))))


def _codes(error: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    """Codes of the object and of the objects in it, the outer ones first, without spaces."""
    for name in _CODE_FIELDS:
        value = error.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            yield re.sub(r"\s+", "_", str(value).strip())[:100]
    if depth == _DEEPEST:
        return
    for name in ("innererror", "inner_error", "metadata", "details", "detail", "error"):
        inner = error.get(name)
        for part in inner if isinstance(inner, list) else [inner]:
            if isinstance(part, Mapping):
                yield from _codes(part, depth + 1)


def _headers(error: Mapping[str, Any]) -> dict[str, str]:
    """OpenRouter repeats the upstream's headers in metadata; Google's RetryInfo names a delay ("13s")."""
    found: dict[str, str] = {}
    metadata, details = error.get("metadata"), error.get("details")
    for part in details if isinstance(details, list) else ():
        if isinstance(part, Mapping) and isinstance(part.get("retryDelay"), str):
            found["retry-after"] = part["retryDelay"]
    if isinstance(metadata, Mapping):
        headers = metadata.get("headers")
        if isinstance(headers, Mapping):
            found |= {str(name).lower(): str(value) for name, value in headers.items()}
        if isinstance(metadata.get("retry_after_seconds"), int | float):
            found["retry-after"] = str(metadata["retry_after_seconds"])
    return found


def _text(value: Any) -> str:
    """A text, that of an object, or those of a list (FastAPI's validation errors)."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, Mapping):
        return next(filter(None, (_text(value.get(name)) for name in _MESSAGE_FIELDS)), "")
    return "; ".join(filter(None, map(_text, value))) if isinstance(value, list) else ""


def _line(text: str) -> str:
    """One line, without the tags of a page."""
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())[:_MESSAGE_SHOWN]
