"""A chat request as the teacher's server reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.servers.teacher_answers import Answer, Library, Text


@dataclass(frozen=True, slots=True)
class Asked:
    """What matters of one request."""

    model: str
    prompt: str
    text: Text
    temperature: float
    seed: int | None
    response_format: str
    most_tokens: int | None
    stop: tuple[str, ...]
    body: dict[str, Any]

    def shorten(self, answer: Answer) -> Answer:
        """The answer within the request's stop strings and its most tokens."""
        content, reason = answer.content, answer.finish_reason
        for stop in self.stop:
            content = content.partition(stop)[0]
        if self.most_tokens is not None and len(raw := content.encode()) > 4 * self.most_tokens:
            content, reason = raw[: 4 * self.most_tokens].decode(errors="ignore"), "length"
        return Answer(content, reason)


def read_request(raw: bytes, library: Library) -> Asked:
    """Raises ValueError with what is wrong with the request."""
    body = json.loads(raw)
    if not isinstance(body, dict) or not isinstance(body.get("model"), str):
        raise ValueError("you must provide a model parameter")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ValueError("'messages' must be a non-empty array")
    if body.get("stream"):
        raise ValueError("this server does not stream")
    contents = [(m.get("role"), _content(m)) for m in messages]
    user = next((c for role, c in reversed(contents) if role == "user"), "")
    stop = body.get("stop") or ()
    return Asked(
        model=body["model"],
        prompt="\n".join(c for _, c in contents),
        text=library.find(user),
        temperature=_number(body, "temperature", 1.0),
        seed=body.get("seed"),
        response_format=(body.get("response_format") or {}).get("type", "text"),
        most_tokens=body.get("max_completion_tokens") or body.get("max_tokens"),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        body=body,
    )


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


def _number(body: Mapping[str, Any], name: str, default: float) -> float:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, int | float):
        raise ValueError(f"'{name}' must be a number")
    return float(value)
