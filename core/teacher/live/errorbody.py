"""Error objects as servers write them, under any HTTP status: message, codes, and how long to wait."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from core.teacher.live.verdict import status_of_codes

_CODES = ("code", "type", "status", "reason", "error_type", "error_code", "status_code", "http_code", "param")
_TEXTS = ("message", "msg", "detail", "error_description", "error")
_SHOWN = 300
_DEEPEST = 3


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """What an error object says. `status` is the HTTP status that its codes stand for, None where unknown."""

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
    texts = [_text(error.get(name)) for name in _TEXTS]
    metadata = error.get("metadata")
    # OpenRouter's own message is the same for all; what the provider said is here.
    raw = _text(metadata.get("raw")) if isinstance(metadata, Mapping) else ""
    said = next(filter(None, texts), "")
    return _line(": ".join(filter(None, (said, raw))))


def _codes(error: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    """Codes of the object and of the objects in it, the outer ones first, without spaces."""
    for name in _CODES:
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
        return next(filter(None, (_text(value.get(name)) for name in _TEXTS)), "")
    return "; ".join(filter(None, map(_text, value))) if isinstance(value, list) else ""


def _line(text: str) -> str:
    """One line, without the tags of a page."""
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())[:_SHOWN]
