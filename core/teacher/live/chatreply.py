"""The body of a chat completion as servers write it: the first choice, its reasoning and its usage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import from_json

from core.teacher.live.prices import Usage


class CallError(Exception):
    """A request without a usable reply. `status` is None where the connection failed."""

    def __init__(
        self,
        message: str,
        status: int | None = None,
        code: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.status, self.code, self.headers = message, status, code, headers or {}


@dataclass(frozen=True, slots=True)
class Came:
    """A reply: content and reasoning of the first choice, and what the server said about it."""

    content: str
    reasoning: str | None
    finish_reason: str | None
    model: str
    usage: Usage | None
    seconds: float
    headers: Mapping[str, str] = field(default_factory=dict)


def read_reply(body: bytes, seconds: float, headers: Mapping[str, str]) -> Came:
    """Read a reply that took so many `seconds`. Raises CallError for one that holds no answer."""
    reply = _object(body, headers)
    choices = reply.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise CallError("the reply holds no choice", headers=headers)
    return Came(
        content=_text(message.get("content")) or "",
        reasoning=_text(message.get("reasoning_content")) or _text(message.get("reasoning")),
        finish_reason=_text(choice.get("finish_reason")),
        model=_text(reply.get("model")) or "",
        usage=_usage(reply.get("usage")),
        seconds=seconds,
        headers=headers,
    )


def _object(body: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
    try:
        try:
            reply = from_json(body)
        except ValueError:
            reply = json.loads(body)  # it also takes half a surrogate pair
    except ValueError as e:
        if "html" in headers.get("content-type", ""):
            said = "the reply is a page and no JSON; is teacher.base_url right (with /v1)?"
            raise CallError(said) from None
        raise CallError(f"the reply cannot be read ({e})") from None
    if not isinstance(reply, dict):
        raise CallError("the reply is no JSON object; is teacher.base_url right (with /v1)?")
    return reply


def _text(value: Any) -> str | None:
    """A text, also where it comes in parts; None for anything else, and for an empty one."""
    if isinstance(value, list):
        parts = (part.get("text") for part in value if isinstance(part, dict))
        value = "".join(part for part in parts if isinstance(part, str))
    return value if isinstance(value, str) and value else None


def _usage(found: Any) -> Usage | None:
    """Counts in the names of OpenAI, and DeepSeek's for cached tokens; None where there are none."""
    if not isinstance(found, dict):
        return None
    details = found.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else 0
    return Usage(
        prompt=_count(found.get("prompt_tokens")),
        completion=_count(found.get("completion_tokens")),
        cached=cached or _count(found.get("prompt_cache_hit_tokens")),
    )


def _count(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and value > 0 else 0
