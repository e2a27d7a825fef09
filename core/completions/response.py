"""The body of a chat completion as servers write it: the first choice, its reasoning and its usage."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import from_json

from core.completions.failures import is_error, read_error, read_error_object, status_of_codes
from core.completions.reply import ending
from core.cost import Usage

_REASONING = ("reasoning_content", "reasoning", "thinking", "thinking_blocks", "reasoning_details")
"""Fields of a message in which servers put what a model thought, in the order in which they are read."""
_THOUGHTS = ("thinking", "reasoning")
"""Types of content parts that are not part of the answer."""
_PART_TEXTS = ("text", "thinking", "summary", "content", "value")


class CallError(Exception):
    """A request without a usable reply. `status` is None where the connection failed, 200 where a reply came
    and states no error status; `code` holds the error's codes, separated by spaces.

    `counted` is what the failed reply used all the same; None where it does not state that.
    """

    def __init__(
        self,
        message: str,
        status: int | None = None,
        code: str = "",
        headers: Mapping[str, str] | None = None,
        counted: Counted | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.status, self.code, self.headers = message, status, code, headers or {}
        self.counted = counted


@dataclass(frozen=True, slots=True)
class ServerReply:
    """A reply: content and reasoning of the first choice, and what the server states about it."""

    content: str
    reasoning: str | None
    finish_reason: str | None
    model: str
    counted: Counted | None
    seconds: float
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def usage(self) -> Usage | None:
        """What it used; None where the server does not say."""
        return self.counted.usage if self.counted else None

    def token_counts(self) -> tuple[int | None, int | None, int | None]:
        """Prompt, cached and completion tokens; None for what the server does not state."""
        if self.counted is None:
            return None, None, None
        usage, missing = self.counted.usage, None if self.counted.is_partial else 0
        return usage.prompt or missing, usage.cached, usage.completion or missing


def read_reply(body: bytes, seconds: float, headers: Mapping[str, str]) -> ServerReply:
    """Read a reply that took so many `seconds`. Raises CallError for one that holds no answer.

    A reply that states an error is a failed request with that error's status, whatever else it holds.
    """
    reply = _object(body, headers)
    choices = reply.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    counted = _counted(reply, choice)
    finish_reason = _finish_reason(choice)
    _refuse_failed(reply, choice, finish_reason, counted, headers)
    message = choice["message"]
    content, reasoning = _content(message), _reasoning(message)
    if not content and not reasoning and finish_reason is None:
        raise CallError("the reply has neither content nor finish_reason", 200, "", headers, counted)
    refusal = _text(message.get("refusal"))
    return ServerReply(
        content=content or refusal or "",
        reasoning=reasoning,
        finish_reason="refusal" if refusal else finish_reason,
        model=_text(reply.get("model")) or "",
        counted=counted,
        seconds=seconds,
        headers=headers,
    )


def error_of(status: int, body: bytes, headers: Mapping[str, str]) -> CallError:
    """The error of a reply with another HTTP status than success."""
    try:
        found = read_error(_json(body))
    except (ValueError, RecursionError):
        found = None
    if found is None:
        found = read_error_object(body[:10_000].decode("utf-8", "replace"))
    return CallError(found.message, status, " ".join(found.codes), {**found.headers, **headers})


def _refuse_failed(
    reply: Mapping[str, Any],
    choice: Mapping[str, Any],
    finish_reason: str | None,
    counted: Counted | None,
    headers: Mapping[str, str],
) -> None:
    """Raise CallError for a reply that states an error, has no message, or was broken off."""
    found = read_error(reply)
    if found is None and is_error(choice.get("error")):
        found = read_error_object(choice["error"])
    if found is not None:
        message_text = found.message or "the reply states an error without a message"
        code = " ".join(found.codes)
        raise CallError(message_text, found.status or 200, code, {**found.headers, **headers}, counted)
    how = ending(finish_reason)
    if how == "failed":
        code = str(finish_reason).replace(" ", "_")
        message_text = "the server broke the answer off"
        raise CallError(message_text, status_of_codes([code]) or 200, code, headers, counted)
    if not isinstance(choice.get("message"), dict):
        raise CallError("the reply holds no choice with a message", 200, "", headers, counted)
    if how == "unknown":
        message_text = f"finish_reason {finish_reason!r:.60} is not known to mean a complete answer"
        raise CallError(message_text, 200, "", headers, counted)


def _json(body: bytes) -> Any:
    """Raises ValueError or RecursionError for what is not JSON."""
    try:
        return from_json(body)
    except ValueError:
        return json.loads(body)  # it also takes half a surrogate pair


def _object(body: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
    try:
        reply = _streamed(body) if body.lstrip().startswith((b"data:", b": ")) else _json(body)
    except (ValueError, RecursionError) as e:
        if "html" in headers.get("content-type", ""):
            message_text = "the reply is an HTML page, not JSON; is teacher.base_url right (with /v1)?"
            raise CallError(message_text) from None
        raise CallError(f"the reply cannot be read ({e})") from None
    if isinstance(reply, list) and read_error(reply):
        reply = reply[0]
    if not isinstance(reply, dict):
        raise CallError("the reply is not a JSON object; is teacher.base_url right (with /v1)?")
    return reply


def _streamed(body: bytes) -> dict[str, Any]:
    """A reply that came as server-sent events although none were asked for, put together to one.

    Usage and finish reason are in the last chunks. Raises ValueError for a chunk that is not JSON.
    """
    reply: dict[str, Any] = {}
    message: dict[str, Any] = {}
    choice: dict[str, Any] = {}
    for chunk in _chunks(body):
        reply |= {name: value for name, value in chunk.items() if value is not None and name != "choices"}
        choices = chunk.get("choices")
        part = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(part, dict):
            continue
        choice |= {name: value for name, value in part.items() if value is not None and name != "delta"}
        delta = part.get("delta")
        for name, value in delta.items() if isinstance(delta, dict) else ():
            before = message.get(name)
            message[name] = (
                before + value if isinstance(before, str) and isinstance(value, str) else value or before
            )
    if message:
        choice.setdefault("message", message)
    return {**reply, "choices": [choice] if choice else []}


def _chunks(body: bytes) -> Iterator[dict[str, Any]]:
    for line in body.splitlines():
        if line.startswith(b"data:") and (data := line[5:].strip()) not in (b"", b"[DONE]"):
            chunk = _json(data)
            if isinstance(chunk, dict):
                yield chunk


def _counted(reply: Mapping[str, Any], choice: Mapping[str, Any]) -> Counted | None:
    """Usage of the reply, else of the choice, where some servers put it in streams."""
    return read_usage(reply.get("usage")) or read_usage(choice.get("usage"))


def _finish_reason(choice: Mapping[str, Any]) -> str | None:
    """The finish reason, by itself or in an object; else the upstream's own, which OpenRouter passes on."""
    for name in ("finish_reason", "native_finish_reason"):
        value = choice.get(name)
        value = value.get("type") if isinstance(value, dict) else value
        if isinstance(value, str) and value.strip():
            return value.strip()
    return None


def _content(message: Mapping[str, Any]) -> str:
    """The content as text; where it is empty, the arguments of a tool call, if there is exactly one."""
    content = message.get("content")
    text = json.dumps(content) if isinstance(content, dict) and content else _text(content) or ""
    if text.strip():
        return text
    tools = message.get("tool_calls")
    calls = (
        [part.get("function") for part in tools if isinstance(part, dict)] if isinstance(tools, list) else []
    )
    found = [call for call in [*calls, message.get("function_call")] if isinstance(call, dict)]
    if len(found) != 1:
        return text
    arguments = found[0].get("arguments")
    return json.dumps(arguments) if isinstance(arguments, dict) else _text(arguments) or text


def _reasoning(message: Mapping[str, Any]) -> str | None:
    """What the model thought, in the first field that holds it, else in parts of the content."""
    found = next(filter(None, (_text(message.get(name), thoughts=True) for name in _REASONING)), None)
    content = message.get("content")
    if found is None and isinstance(content, list):
        thoughts = [part for part in content if isinstance(part, dict) and part.get("type") in _THOUGHTS]
        found = _text(thoughts, thoughts=True)
    return found


def _text(value: Any, *, thoughts: bool = False) -> str | None:
    """A text, also where it comes in parts, without those that are thoughts; None for anything else, and for
    an empty one.
    """
    if isinstance(value, dict):
        if not thoughts and value.get("type") in _THOUGHTS:
            return None
        return next(filter(None, (_text(value.get(name), thoughts=thoughts) for name in _PART_TEXTS)), None)
    if isinstance(value, list):
        value = "".join(filter(None, (_text(part, thoughts=thoughts) for part in value)))
    return value if isinstance(value, str) and value else None


_MOST_TOKENS = 1_000_000_000
_NUMBER = re.compile(r"\s*\d{1,10}(\.\d+)?\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Counted:
    """What a reply used. `is_partial`: the fields do not say how long the prompt or the completion was.

    `conflict` names the fields where they contradict each other; empty where they do not.
    """

    usage: Usage
    is_partial: bool = False
    conflict: str = ""


def read_usage(found: Any) -> Counted | None:
    """Read the usage object of a reply; None where it counts nothing.

    Counts that cannot be true (negative, not a number, a billion) are left out. A completion shorter than its
    reasoning excludes it, and a prompt shorter than its cached part is at least that long.
    """
    if not isinstance(found, Mapping):
        return None
    cached, reasoning = _cached_count(found), _reasoning_count(found)
    stated, written = _prompt_count(found), _first(found, "completion_tokens", "output_tokens")
    total = _count(found, "total_tokens")
    prompt = max(stated or 0, cached, _hits(found) + _count(found, "prompt_cache_miss_tokens"))
    completion = (written or 0) + (reasoning if reasoning > (written or 0) else 0)
    says_prompt, says_completion = prompt > 0, written is not None or reasoning > 0
    if not says_prompt and says_completion:
        prompt = max(0, total - completion)
    completion = max(completion, total - prompt)
    if prompt + completion == 0:
        return None
    is_partial = not total and not (says_prompt and says_completion)
    return Counted(
        Usage(prompt, completion, min(cached, prompt)),
        is_partial or (prompt == 0 and says_completion),
        _conflict(stated, written, total, reasoning, cached),
    )


def _conflict(prompt: int | None, written: int | None, total: int, reasoning: int, cached: int) -> str:
    disagree = (
        (total and prompt is not None and written is not None and total != prompt + written)
        or (written is not None and reasoning > written)
        or (prompt is not None and cached > prompt)
    )
    if not disagree:
        return ""
    counts = {
        "prompt": prompt,
        "completion": written,
        "total": total,
        "reasoning": reasoning,
        "cached": cached,
    }
    return ", ".join(f"{name} {count}" for name, count in counts.items() if count)


def _prompt_count(found: Mapping[str, Any]) -> int | None:
    """Prompt tokens; Anthropic's input_tokens exclude what was read from and written to the cache."""
    prompt = _first(found, "prompt_tokens")
    if prompt is None and (fresh := _first(found, "input_tokens")) is not None:
        caches = ("cache_read_input_tokens", "cache_creation_input_tokens")
        prompt = fresh + sum(_count(found, name) for name in caches)
    return prompt


def _cached_count(found: Mapping[str, Any]) -> int:
    details = found.get("prompt_tokens_details") or found.get("input_tokens_details")
    named = _count(details, "cached_tokens") if isinstance(details, Mapping) else 0
    return max(named, _hits(found), _count(found, "cached_tokens"), _count(found, "cache_read_input_tokens"))


def _hits(found: Mapping[str, Any]) -> int:
    """DeepSeek's name for cached tokens."""
    return _count(found, "prompt_cache_hit_tokens")


def _reasoning_count(found: Mapping[str, Any]) -> int:
    details = found.get("completion_tokens_details") or found.get("output_tokens_details")
    named = _count(details, "reasoning_tokens") if isinstance(details, Mapping) else 0
    return max(named, _count(found, "reasoning_tokens"))


def _count(found: Mapping[str, Any], name: str) -> int:
    return _first(found, name) or 0


def _first(found: Mapping[str, Any], *names: str) -> int | None:
    """The first of these fields that holds a count, rounded up; None where none does."""
    for name in names:
        value = found.get(name)
        if isinstance(value, str) and _NUMBER.fullmatch(value):
            value = float(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MOST_TOKENS:
            return math.ceil(value)
    return None
