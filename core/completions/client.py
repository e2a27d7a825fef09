"""One request to an OpenAI-compatible endpoint: sent once, never repeated here, and its reply."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from core.completions.failures import CallError
from core.completions.request import PreparedRequest
from core.completions.response import ServerReply, error_of, read_reply
from core.config.endpoint import Endpoint
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
