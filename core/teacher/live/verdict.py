"""What a failed request means: try again, stop everything, or this text only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["retry", "refused", "bad_request", "format_unsupported"]

_RETRIED = frozenset({408, 409, 425, 429})
_REFUSED = frozenset({401, 402, 403, 404})
_NO_MONEY = re.compile(
    r"insufficient[_ ](quota|balance|funds|credits?)|exceeded your current quota|billing|payment required"
    r"|credit balance is too low|account.{0,20}(suspended|deactivated)|access_terminated",
    re.IGNORECASE,
)
_NO_ENTRY = re.compile(
    r"(invalid|incorrect|missing)[_ ].{0,20}api[_ ]key|api[_ ]key (is )?not valid", re.IGNORECASE
)
_NO_MODEL = re.compile(
    r"model_not_found|model.{0,80}(not exist|not found|unknown)|unknown model", re.IGNORECASE
)
_FORMAT = re.compile(r"response_format|json_schema|json_object|structured output|text\.format", re.IGNORECASE)
_MODERATED = re.compile(r"moderation|flagged|content[_ ](filter|policy|management)", re.IGNORECASE)
_SHOWN = 500


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do, and the server's own words."""

    kind: Kind
    """retry: it may pass; refused: stop everything; bad_request: this text fails, others may not;
    format_unsupported: ask without structured output."""
    words: str
    slow_down: bool = False
    """Whether the server is asked too much (429, or 503 and 529 for overload)."""


def classify(
    status: int | None, code: str | None = None, message: str = "", should_retry: bool | None = None
) -> Verdict:
    """Judge a failure by HTTP status (None: no answer came), error code or type, and message.

    `should_retry` is the server's x-should-retry, which decides between retry and bad_request.
    """
    said = " ".join(part for part in (code, message) if part)
    kind = _kind(status, said)
    if should_retry is not None and kind in ("retry", "bad_request"):
        kind = "retry" if should_retry else "bad_request"
    number = "no answer" if status is None else f"HTTP {status}"
    words = f"{number}: {' '.join(said.split())}" if said.strip() else number
    return Verdict(kind, words[:_SHOWN], slow_down=kind == "retry" and status in (429, 503, 529))


def _kind(status: int | None, said: str) -> Kind:
    if status is None:
        return "retry"
    if status in (400, 403, 422) and _MODERATED.search(said):
        # One text that a filter does not like says nothing of the others.
        return "bad_request"
    # Money first: it comes as 429, 403, 402 and 400, and waiting does not mend it.
    if status in _REFUSED or (status < 500 and _NO_MONEY.search(said)) or _NO_ENTRY.search(said):
        return "refused"
    if status in (400, 422):
        if _FORMAT.search(said):
            return "format_unsupported"
        return "refused" if _NO_MODEL.search(said) else "bad_request"
    return "retry" if status in _RETRIED or status >= 500 else "bad_request"
