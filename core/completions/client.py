"""One request to an OpenAI-compatible endpoint: sent once, never repeated here, and what came of it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from core.completions.request import PreparedRequest
from core.completions.response import CallError, ServerReply, error_of, read_reply
from core.config.endpoint import Endpoint
from core.errors import UserError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_SECRET = 6
"""A key shorter than this hides nothing, and would be found in any word."""


class ChatClient:
    """The endpoint. Opened in a running event loop; its own repetitions are off."""

    def __init__(self, endpoint: Endpoint, formats: Mapping[str, Mapping[str, Any] | None]) -> None:
        """`formats` maps output formats to the response_format that asks for each."""
        from openai import AsyncOpenAI, DefaultAioHttpClient, Timeout

        limits = endpoint.limits
        timeout = Timeout(limits.read_timeout_s, connect=limits.connect_timeout_s)
        self._total, self._token_limit = limits.total_timeout_s, endpoint.token_limit
        self._formats, self._key = formats, api_key(endpoint)
        self._client = AsyncOpenAI(
            api_key=self._key,
            base_url=endpoint.base_url,
            max_retries=0,
            timeout=timeout,
            http_client=DefaultAioHttpClient(timeout=timeout),
        )
        if not is_openai(endpoint.base_url):
            _forget_openai(self._client)

    async def ask(self, request: PreparedRequest) -> ServerReply:
        """Send it and read the reply. Raises CallError.

        Sent by the client's generic `post`: its typed `create` walks every message through the types of
        its schema and builds models of the reply, which is half of a request's processor time.
        """
        import httpx2
        import openai

        started = time.monotonic()
        try:
            async with asyncio.timeout(self._total):
                response = await self._client.post(
                    "/chat/completions", cast_to=httpx2.Response, body=self._body(request)
                )
        except openai.APIStatusError as e:
            error = error_of(e.status_code, e.response.content, dict(e.response.headers))
            error.message = self._hidden(error.message)
            raise error from None
        except TimeoutError as e:
            raise CallError(f"no whole reply within {self._total:g} s") from e
        except openai.OpenAIError as e:
            raise CallError(_connection(e)) from e
        except (OSError, ValueError) as e:  # a reply that broke off
            raise CallError(f"the reply cannot be read ({type(e).__name__}: {e})") from e
        try:
            return read_reply(response.content, time.monotonic() - started, dict(response.headers))
        except CallError as e:
            e.message = self._hidden(e.message)
            raise

    async def close(self) -> None:
        """End the connections."""
        await self._client.close()

    def _body(self, request: PreparedRequest) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [{"role": m.role, "content": m.content} for m in request.messages],
            self._token_limit: request.max_tokens,
        }
        if request.temperature is not None:
            body["temperature"] = request.temperature
        response_format = self._formats[request.output_format]
        if response_format is not None:
            body["response_format"] = response_format
        return {**body, **request.extra}

    def _hidden(self, words: str) -> str:
        """A server's words without the key: some repeat it, and they go into logs."""
        return words.replace(self._key, "***") if len(self._key) >= _SECRET else words


def is_openai(base_url: str) -> bool:
    """Whether an endpoint is OpenAI's own: api.openai.com or a regional host such as eu.api.openai.com."""
    host = (urlsplit(base_url).hostname or "").lower().rstrip(".")
    return host == "api.openai.com" or host.endswith(".api.openai.com")


def _forget_openai(client: AsyncOpenAI) -> None:
    """Drop what the client itself reads from the environment, which is meant for OpenAI alone.

    The variables are OPENAI_ORG_ID, OPENAI_PROJECT_ID, OPENAI_ADMIN_KEY, OPENAI_WEBHOOK_SECRET and
    OPENAI_CUSTOM_HEADERS.
    """
    client.organization = client.project = client.admin_api_key = client.webhook_secret = None
    client._custom_headers = {}


def api_key(endpoint: Endpoint) -> str:
    """Return the key from the environment variable that the config names, else from .env in the working
    folder.

    Raises UserError naming the variable where neither has it, or where it contains what no key contains.
    """
    name = endpoint.api_key_env
    if name is None:
        return "none"  # the client insists on one
    key = (os.environ.get(name) or _dotenv(name) or "").strip()
    setting = f"{endpoint.section}.api_key_env"
    if not key:
        raise UserError(f"{setting}: {name} is not set; export it, or write {name}=... into .env")
    if not all("!" <= c <= "~" for c in key):
        raise UserError(
            f"{setting}: {name} holds a space, a line break or a letter outside ASCII, as no key "
            "does; copy the key again"
        )
    return key


def _dotenv(name: str) -> str | None:
    from dotenv import dotenv_values

    path = Path(".env")
    if not path.is_file():
        return None
    try:
        return dotenv_values(path, encoding="utf-8-sig").get(name)
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{path.absolute()} cannot be read ({e}); fix it, or export {name}") from e


def _connection(error: BaseException) -> str:
    """What happened to the connection: the transport calls everything a timeout, its cause does not."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return f"{type(cause).__name__}: {' '.join(str(cause).split())[:200]}"
