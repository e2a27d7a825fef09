"""One request to an OpenAI-compatible endpoint, never repeated here, and the reply as servers write it."""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic_core import from_json

from core.completions.chat import PreparedRequest, ending
from core.completions.failures import CallError, is_error, read_error, read_error_object, status_of_codes
from core.config import Endpoint
from core.cost import Usage
from core.errors import UserError

_SECRET = 6
"""Shorter keys are not hidden in messages: they would be found in any word."""


class ChatClient:
    """The endpoint. Opened in a running event loop; its own repetitions are off."""

    def __init__(self, endpoint: Endpoint, formats: Mapping[str, Mapping[str, Any] | None]) -> None:
        """`formats` maps output formats to the response_format that asks for each."""
        from openai import AsyncOpenAI, DefaultAioHttpClient, Timeout

        limits = endpoint.limits
        timeout = Timeout(limits.read_timeout_s, connect=limits.connect_timeout_s)
        self._total, self._formats, self._key = limits.total_timeout_s, formats, api_key(endpoint)
        self._client = AsyncOpenAI(
            api_key=self._key,
            base_url=endpoint.base_url,
            max_retries=0,
            timeout=timeout,
            http_client=DefaultAioHttpClient(timeout=timeout),
        )
        if not is_openai(endpoint.base_url):
            # The client reads OPENAI_ORG_ID, OPENAI_PROJECT_ID, OPENAI_ADMIN_KEY, OPENAI_WEBHOOK_SECRET and
            # OPENAI_CUSTOM_HEADERS from the environment, which are meant for OpenAI alone.
            client = self._client
            client.organization = client.project = client.admin_api_key = client.webhook_secret = None
            client._custom_headers = {}

    async def ask(self, prepared: PreparedRequest) -> ServerReply:
        """Send a request and read the reply. Raises CallError.

        Sent by the client's generic `post`: its typed `create` walks every message through the types of
        its schema and builds models of the reply, which is half of a request's processor time.
        """
        import httpx2
        import openai

        request, endpoint = prepared.request, prepared.endpoint
        body: dict[str, Any] = {
            "model": endpoint.model,
            "messages": [{"role": m.role, "content": m.content} for m in request.messages],
            endpoint.token_limit: prepared.max_tokens,
        }
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if (response_format := self._formats[prepared.output_format]) is not None:
            body["response_format"] = response_format
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._total):
                response = await self._client.post(
                    "/chat/completions", cast_to=httpx2.Response, body={**body, **endpoint.extra_body}
                )
            return read_reply(response.content, time.monotonic() - started, dict(response.headers))
        except CallError as e:
            raise self._without_key(e) from None
        except openai.APIStatusError as e:
            error = error_of(e.status_code, e.response.content, dict(e.response.headers))
            raise self._without_key(error) from None
        except TimeoutError as e:
            raise CallError(f"no whole reply within {self._total:g} s") from e
        except openai.OpenAIError as e:
            cause: BaseException = e  # the transport calls everything a timeout, its cause does not
            while cause.__cause__ is not None:
                cause = cause.__cause__
            words = " ".join(str(cause).split())[:200]
            raise CallError(f"{type(cause).__name__}: {words}") from e
        except (OSError, ValueError) as e:  # a reply that broke off
            raise CallError(f"the reply cannot be read ({type(e).__name__}: {e})") from e

    async def close(self) -> None:
        await self._client.close()

    def _without_key(self, error: CallError) -> CallError:
        """Remove the key from an error's message: some servers repeat it, and messages go into logs."""
        if len(self._key) >= _SECRET:
            error.message = error.message.replace(self._key, "***")
        return error


def is_openai(base_url: str) -> bool:
    """Whether an endpoint is OpenAI's own: api.openai.com or a regional host such as eu.api.openai.com."""
    host = (urlsplit(base_url).hostname or "").lower().rstrip(".")
    return host == "api.openai.com" or host.endswith(".api.openai.com")


def api_key(endpoint: Endpoint) -> str:
    """Return the key from the environment variable that the config names, else from .env in the work folder.

    Raises UserError naming the variable if neither has it, or if it contains what no key contains.
    """
    name = endpoint.api_key_env
    if name is None:
        return "none"  # the client insists on one
    key, path = os.environ.get(name), Path(".env")
    if not key and path.is_file():
        from dotenv import dotenv_values

        try:
            key = dotenv_values(path, encoding="utf-8-sig").get(name)
        except (OSError, UnicodeDecodeError) as e:
            raise UserError(f"{path.absolute()} cannot be read ({e}); fix it, or export {name}") from e
    key = (key or "").strip()
    setting = f"{endpoint.section}.api_key_env"
    if not key:
        raise UserError(f"{setting}: {name} is not set; export it, or write {name}=... into .env")
    if not all("!" <= c <= "~" for c in key):
        raise UserError(
            f"{setting}: {name} contains a space, a line break or a letter outside ASCII, as no key "
            "does; copy the key again"
        )
    return key


_REASONING = ("reasoning_content", "reasoning", "thinking", "thinking_blocks", "reasoning_details")
"""Fields of a message with reasoning, in the order in which they are read."""
_REASONING_PARTS = ("thinking", "reasoning")
"""Types of content parts that are not part of the answer."""
_PART_TEXTS = ("text", "thinking", "summary", "content", "value")


@dataclass(frozen=True, slots=True)
class ServerReply:
    """A reply: content and reasoning of the first choice, and what the server states about it."""

    content: str
    reasoning: str | None
    finish_reason: str | None
    model: str
    counted: TokenCounts | None
    seconds: float
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def usage(self) -> Usage | None:
        """What it used; None if the server does not state it."""
        return self.counted.usage if self.counted else None


def read_reply(body: bytes, seconds: float, headers: Mapping[str, str]) -> ServerReply:
    """Read a reply that took so many `seconds`. Raises CallError for one without an answer.

    A reply that states an error is a failed request with that error's status, whatever else it contains.
    """
    reply = _object(body, headers)
    choices = reply.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    # Some servers put the usage of streams into the choice.
    counted = read_usage(reply.get("usage")) or read_usage(choice.get("usage"))
    finish_reason = _finish_reason(choice)
    found = read_error(reply)
    if found is None and is_error(choice.get("error")):
        found = read_error_object(choice["error"])
    if found is not None:
        problem = found.message or "the reply states an error without a message"
        headers = {**found.headers, **headers}
        raise CallError(problem, found.status or 200, found.code, headers, counted)
    how, message = ending(finish_reason), choice.get("message")
    if how == "failed":
        code = str(finish_reason).replace(" ", "_")
        status = status_of_codes([code]) or 200
        raise CallError("the server broke the answer off", status, code, headers, counted)
    if not isinstance(message, dict):
        raise CallError("the reply contains no choice with a message", 200, "", headers, counted)
    if how == "unknown":
        problem = f"finish_reason {finish_reason!r:.60} is not known to mean a complete answer"
        raise CallError(problem, 200, "", headers, counted)
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
    """Return the error of a reply with an HTTP status other than success."""
    try:
        found = read_error(_json(body))
    except (ValueError, RecursionError):
        found = None
    if found is None:
        found = read_error_object(body[:10_000].decode("utf-8", "replace"))
    return CallError(found.message, status, found.code, {**found.headers, **headers})


def _json(body: bytes) -> Any:
    """Raises ValueError or RecursionError for what is not JSON."""
    try:
        return from_json(body)
    except ValueError:
        return json.loads(body)  # also reads half a surrogate pair


def _object(body: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
    try:
        reply = _streamed(body) if body.lstrip().startswith((b"data:", b": ")) else _json(body)
    except (ValueError, RecursionError) as e:
        if "html" in headers.get("content-type", ""):
            raise CallError("the reply is an HTML page, not JSON; is base_url right (with /v1)?") from None
        raise CallError(f"the reply cannot be read ({e})") from None
    if isinstance(reply, list) and read_error(reply):
        reply = reply[0]
    if not isinstance(reply, dict):
        raise CallError("the reply is not a JSON object; is base_url right (with /v1)?")
    return reply


def _streamed(body: bytes) -> dict[str, Any]:
    """Join a reply that was sent as server-sent events although none were asked for.

    Usage and finish reason are in the last chunks. Raises ValueError for a chunk that is not JSON.
    """
    reply: dict[str, Any] = {}
    message: dict[str, Any] = {}
    choice: dict[str, Any] = {}
    for line in body.splitlines():
        data = line.removeprefix(b"data:").strip() if line.startswith(b"data:") else b""
        if data in (b"", b"[DONE]") or not isinstance(chunk := _json(data), dict):
            continue
        reply |= {name: value for name, value in chunk.items() if value is not None and name != "choices"}
        choices = chunk.get("choices")
        part = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(part, dict):
            continue
        choice |= {name: value for name, value in part.items() if value is not None and name != "delta"}
        delta = part.get("delta")
        for name, value in delta.items() if isinstance(delta, dict) else ():
            before = message.get(name)
            both = isinstance(before, str) and isinstance(value, str)
            message[name] = before + value if both else value or before
    if message:
        choice.setdefault("message", message)
    return {**reply, "choices": [choice] if choice else []}


def _finish_reason(choice: Mapping[str, Any]) -> str | None:
    """The finish reason, by itself or in an object; else the upstream's own, which OpenRouter passes on."""
    for name in ("finish_reason", "native_finish_reason"):
        value = choice.get(name)
        value = value.get("type") if isinstance(value, dict) else value
        if isinstance(value, str) and value.strip():
            return value.strip()
    return None


def _content(message: Mapping[str, Any]) -> str:
    """The content as text; if it is empty, the arguments of a tool call, if there is exactly one."""
    content = message.get("content")
    text = json.dumps(content) if isinstance(content, dict) and content else _text(content) or ""
    if text.strip():
        return text
    tools = message.get("tool_calls")
    parts = [part for part in tools if isinstance(part, dict)] if isinstance(tools, list) else []
    calls = [part.get("function") for part in parts] + [message.get("function_call")]
    found = [call for call in calls if isinstance(call, dict)]
    if len(found) != 1:
        return text
    arguments = found[0].get("arguments")
    return json.dumps(arguments) if isinstance(arguments, dict) else _text(arguments) or text


def _reasoning(message: Mapping[str, Any]) -> str | None:
    """The reasoning, in the first field that has it, else in parts of the content."""
    found = next(filter(None, (_text(message.get(name), reasoning=True) for name in _REASONING)), None)
    content = message.get("content")
    if found is None and isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict) and part.get("type") in _REASONING_PARTS]
        found = _text(parts, reasoning=True)
    return found


def _text(value: Any, *, reasoning: bool = False) -> str | None:
    """A text, also in parts, without those that are reasoning; None for anything else or an empty text."""
    if isinstance(value, dict):
        if not reasoning and value.get("type") in _REASONING_PARTS:
            return None
        texts = (_text(value.get(name), reasoning=reasoning) for name in _PART_TEXTS)
        return next(filter(None, texts), None)
    if isinstance(value, list):
        value = "".join(filter(None, (_text(part, reasoning=reasoning) for part in value)))
    return value if isinstance(value, str) and value else None


_MOST_TOKENS = 1_000_000_000
_NUMBER = re.compile(r"\s*\d{1,10}(\.\d+)?\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """What a reply used. `is_partial`: the fields do not state how long the prompt or the completion was.

    `conflict` names the fields if they contradict each other; otherwise it is empty.
    """

    usage: Usage
    is_partial: bool = False
    conflict: str = ""

    def completed(self, reserved: Usage) -> Usage:
        """Return the usage, with what was reserved in place of counts that are not stated."""
        if not self.is_partial:
            return self.usage
        prompt, completion = self.usage.prompt, self.usage.completion
        return Usage(prompt or reserved.prompt, completion or reserved.completion, self.usage.cached)


def read_usage(found: Any) -> TokenCounts | None:
    """Read the usage object of a reply; None if it counts nothing.

    Counts that cannot be true (negative, not a number, a billion) are left out. A completion shorter than its
    reasoning excludes it, and a prompt shorter than its cached part is at least that long.
    """
    if not isinstance(found, Mapping):
        return None
    hits = _count(found, "prompt_cache_hit_tokens")  # DeepSeek's name for cached tokens
    read = _count(found, "cache_read_input_tokens")
    prompt_details = found.get("prompt_tokens_details") or found.get("input_tokens_details")
    cached = max(_count(prompt_details, "cached_tokens"), hits, _count(found, "cached_tokens"), read)
    completion_details = found.get("completion_tokens_details") or found.get("output_tokens_details")
    reasoning = max(_count(completion_details, "reasoning_tokens"), _count(found, "reasoning_tokens"))
    stated, written = _first(found, "prompt_tokens"), _first(found, "completion_tokens", "output_tokens")
    if stated is None and (fresh := _first(found, "input_tokens")) is not None:
        # Anthropic's input_tokens exclude what was read from and written to the cache.
        stated = fresh + read + _count(found, "cache_creation_input_tokens")
    total = _count(found, "total_tokens")
    prompt = max(stated or 0, cached, hits + _count(found, "prompt_cache_miss_tokens"))
    completion = (written or 0) + (reasoning if reasoning > (written or 0) else 0)
    has_prompt, has_completion = prompt > 0, written is not None or reasoning > 0
    if not has_prompt and has_completion:
        prompt = max(0, total - completion)
    completion = max(completion, total - prompt)
    if prompt + completion == 0:
        return None
    is_partial = not total and not (has_prompt and has_completion)
    disagree = (
        (total and stated is not None and written is not None and total != stated + written)
        or (written is not None and reasoning > written)
        or (stated is not None and cached > stated)
    )
    counts = {"prompt": stated, "completion": written, "total": total}
    counts |= {"reasoning": reasoning, "cached": cached}
    return TokenCounts(
        Usage(prompt, completion, min(cached, prompt)),
        is_partial or (prompt == 0 and has_completion),
        ", ".join(f"{name} {count}" for name, count in counts.items() if count) if disagree else "",
    )


def _count(found: Any, name: str) -> int:
    return _first(found, name) or 0 if isinstance(found, Mapping) else 0


def _first(found: Mapping[str, Any], *names: str) -> int | None:
    """The first of these fields with a count, rounded up; None without one."""
    for name in names:
        value = found.get(name)
        if isinstance(value, str) and _NUMBER.fullmatch(value):
            value = float(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MOST_TOKENS:
            return math.ceil(value)
    return None
