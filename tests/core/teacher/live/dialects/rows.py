"""The table of endpoint dialects: what one reply of a server looks like, and what it means.

Structures are those of the sources named; words, names and figures are made up.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

Outcome = Literal["answer", "truncated", "filtered", "unusable", "retry", "skip", "fall back", "stop"]
"""answer: read and counted; truncated, filtered, unusable: kept and counted, but without a label; retry: a
failed request, asked again; skip: this text is left out; fall back: another output format is asked for; stop:
nothing more is asked."""
ANSWER = json.dumps({"reasoning": "The text asks where to meet [R1].", "label": 1})


@dataclass(frozen=True, slots=True)
class Row:
    """One reply. `tokens` are those of prompt and completion that the ledger must count for it."""

    server: str
    case: str
    source: str
    outcome: Outcome
    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    tokens: int = 0
    rejects: tuple[str, ...] = ("json_schema",)
    """Output formats that get this reply, in a row that falls back."""
    parse_source: str = "json"
    """How an answer is read."""
    times: int = 1
    """Requests that get the reply: before a good answer, or, in a row that is left out, in all."""

    @property
    def id(self) -> str:
        """A name without spaces, which is also the model's."""
        return f"{self.server}/{self.case}".replace(" ", "-")

    def raw(self) -> bytes:
        """The body as it is sent."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


def reply(
    message: dict[str, Any] | None = None, usage: Any = None, finish: Any = "stop", **choice: Any
) -> dict[str, Any]:
    """A whole chat completion; its message holds a good answer unless another is given."""
    message = {"content": ANSWER} if message is None else message
    first = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish, **choice}
    return {"id": "c-1", "object": "chat.completion", "model": "m", "choices": [first], "usage": usage}


def usage(prompt: Any, completion: Any, total: Any = None, **more: Any) -> dict[str, Any]:
    """A usage object; without `total` total_tokens is missing."""
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, **more}
    return counts if total is None else {**counts, "total_tokens": total}


def error(message: str = "no", **fields: Any) -> dict[str, Any]:
    """An error object as most servers send it."""
    return {"error": {"message": message, **fields}}
