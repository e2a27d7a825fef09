"""The body of a chat completion as servers write it: the first choice, its reasoning and its usage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import from_json

from core.prices import Usage

_MOST_TOKENS = 1_000_000_000


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
        said = said_by(reply)
        raise CallError(f"the reply holds no choice{f' but {said}' if said else ''}", headers=headers)
    return Came(
        content=_text(message.get("content")) or "",
        reasoning=_text(message.get("reasoning_content")) or _text(message.get("reasoning")),
        finish_reason=_text(choice.get("finish_reason")),
        model=_text(reply.get("model")) or "",
        usage=_usage(reply.get("usage")),
        seconds=seconds,
        headers=headers,
    )


def said_by(reply: Mapping[str, Any]) -> str:
    """The message of a reply that is an error; empty where it holds none."""
    error = reply.get("error")
    for found in (reply.get("message"), error.get("message") if isinstance(error, dict) else error):
        if isinstance(found, str) and found.strip():
            return " ".join(found.split())[:300]
    return ""


def _object(body: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
    try:
        try:
            reply = from_json(body)
        except ValueError:
            reply = json.loads(body)  # it also takes half a surrogate pair
    except (ValueError, RecursionError) as e:
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
    """Counts in the names of OpenAI, and DeepSeek's for cached tokens; None where there are none, or none
    that can be true: no prompt takes 0 tokens, and no answer a billion.
    """
    if not isinstance(found, dict):
        return None
    prompt, completion = _count(found.get("prompt_tokens")), _count(found.get("completion_tokens") or 0)
    if not prompt or completion is None:
        return None
    details = found.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else 0
    cached = cached or _count(found.get("prompt_cache_hit_tokens")) or 0
    return Usage(prompt, completion, min(cached, prompt))


def _count(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MOST_TOKENS:
        return None
    return int(value)
