"""A real client of the teacher's server, as tests of the server use it."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
from openai.types.chat import ChatCompletion

from tests.servers import teacher

PRIZE = "You have won a prize"
FRAME = ("Rules:\n[R1] No prizes.\n\nText: ", "\n\nAnswer in JSON.")
SCHEMA = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}


def client(server: teacher.TeacherServer, key: str = "any", timeout: float = 10.0) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        base_url=server.base_url,
        api_key=key,
        max_retries=0,
        timeout=timeout,
        http_client=openai.DefaultAioHttpClient(),
    )


def message(text: str, frame: tuple[str, str] = FRAME) -> list[Any]:
    system = {"role": "system", "content": "You judge texts."}
    return [system, {"role": "user", "content": text.join(frame)}]


def ask_all(server: teacher.TeacherServer, *texts: str, timeout: float = 10.0, **more: Any) -> list[Any]:
    """Replies or exceptions to texts that are asked at once, over one client."""
    settings = {"temperature": 0.0, "messages": None, **more}

    async def asked() -> list[Any]:
        async with client(server, timeout=timeout) as api:
            calls = [
                api.chat.completions.create(
                    model="m", **{**settings, "messages": settings["messages"] or message(t)}
                )
                for t in texts
            ]
            return await asyncio.gather(*calls, return_exceptions=True)

    return asyncio.run(asked())


def ask(server: teacher.TeacherServer, text: str = PRIZE, **more: Any) -> ChatCompletion:
    """The reply to one request; raises what the client raises."""
    [found] = ask_all(server, text, **more)
    if isinstance(found, BaseException):
        raise found
    assert isinstance(found, ChatCompletion)
    return found


def content(server: teacher.TeacherServer, text: str = PRIZE, **more: Any) -> str:
    return ask(server, text, **more).choices[0].message.content or ""
