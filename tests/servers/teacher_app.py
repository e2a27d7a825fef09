"""The teacher's server itself: one chat request from its arrival to its reply."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, deque
from pathlib import Path

from aiohttp import web

from tests.servers.teacher_answers import Answer, Library, read_texts, tokens
from tests.servers.teacher_delivery import JSON, abort, deliver, json_response
from tests.servers.teacher_faults import (
    CHANGES,
    ERRORS,
    HTML,
    INVALID,
    REFUSALS,
    Error,
    Faults,
    bad_request,
    change,
    refusal,
)
from tests.servers.teacher_ledger import DISCONNECTED, Entry, Ledger, Usage
from tests.servers.teacher_limits import Gate, RateLimit, Work
from tests.servers.teacher_orders import Fault, Orders, Seen, Settings
from tests.servers.teacher_request import Asked, read_request

CACHE_UNIT = 64
SEEN = 64


class Chat:
    """Answers chat requests under the orders of the moment."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        texts = read_texts(Path(settings.texts)) if settings.texts else []
        self.library = Library(texts, settings.frames)
        self.ledger = Ledger(settings.prices)
        self.gate = Gate()
        self.seen: deque[tuple[Asked, dict[str, str]]] = deque(maxlen=SEEN)
        self.orders = Orders()
        self.limit: RateLimit | None = None
        self.work, self.faults = Work(self.orders.delay), Faults(())
        self._sampled: Counter[tuple[str, float]] = Counter()
        self._last_prompt = ""
        self._number = 0

    def obey(self, orders: Orders) -> None:
        """Behave so from now on: what did not change goes on as it was, buckets and numbers included."""
        before = self.orders
        if before.delay != orders.delay:
            self.work = Work(orders.delay)
        if before.limit != orders.limit:
            self.limit = RateLimit(orders.limit) if orders.limit else None
        if before.faults != orders.faults:
            self.faults = Faults(orders.faults, self.faults)
        self.gate.open(orders.capacity)
        self.orders = orders

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """The reply to one request for a completion."""
        try:
            # Not request.read(), which refuses what is longer than a mebibyte.
            asked = read_request(await request.content.read(), self.library)
        except ValueError as e:
            return refuse(bad_request(str(e)), "")
        self.seen.append((asked, dict(request.headers)))
        entry = self.ledger.receive(asked.text.id)
        status = DISCONNECTED
        try:
            response, status = await self._answer(request, asked, entry)
            return response
        finally:
            self.ledger.end(entry, status)

    async def _answer(
        self, request: web.BaseRequest, asked: Asked, entry: Entry
    ) -> tuple[web.StreamResponse, str]:
        fault = self.faults.hit(asked.text.id, entry.received, asked.response_format)
        kind = fault.kind if fault else ""
        refused = self._refusal(request, asked, fault)
        if refused is not None:
            return refused, str(refused.status)
        if kind in ("disconnect", "reset"):
            return abort(request, reset=kind == "reset"), DISCONNECTED
        answer, usage = self._work_out(asked, fault)
        limited = self._limited(asked, usage)
        if limited is not None:
            return limited, str(limited.status)
        await self.gate.enter()
        try:
            if (seconds := self.work.seconds()) > 0:
                await asyncio.sleep(seconds)
            self.ledger.bill(entry, usage)
            body = self._body(asked, answer, usage, kind)
            headers = self.limit.headers() if self.limit else {}
            response, whole = await deliver(request, body, headers, fault)
        finally:
            self.gate.leave()
        if whole and asked.temperature > 0:
            self._sampled[asked.text.id, asked.temperature] += 1
        return response, "200" if whole else DISCONNECTED

    def _refusal(self, request: web.BaseRequest, asked: Asked, fault: Fault | None) -> web.Response | None:
        key = self.settings.api_key
        if key is not None and request.headers.get("Authorization") != f"Bearer {key}":
            return refuse(ERRORS["unauthorized"], asked.model)
        if self.settings.models and asked.model not in self.settings.models:
            return refuse(ERRORS["unknown_model"], asked.model)
        if fault is None or fault.kind not in REFUSALS:
            return None
        headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
        if fault.kind == "bad_gateway":
            return web.Response(status=502, body=HTML, content_type="text/html", headers=headers)
        return refuse(refusal(fault), asked.model, headers)

    def _limited(self, asked: Asked, usage: Usage) -> web.Response | None:
        short = self.limit.take(usage.prompt + usage.completion) if self.limit else None
        if self.limit is None or short is None:
            return None
        name, wait = short
        rate = self.orders.limit
        message = f"Rate limit reached for {asked.model} on {name} per min. Please try again in {wait:.3f}s."
        if rate is not None and rate.hidden:
            message = ERRORS["rate_limited"].message
        headers = self.limit.headers() | self.limit.retry_after(wait)
        return refuse(Error(429, message, name, "rate_limit_exceeded"), asked.model, headers)

    def _work_out(self, asked: Asked, fault: Fault | None) -> tuple[Answer, Usage]:
        """The answer and what it costs.

        At temperature 0 a text always gets its first answer, as of a model that repeats itself;
        above, the next after those that reached the client at this temperature; with a seed, the
        answer of that number.
        """
        text = asked.text
        if asked.seed is not None:
            attempt = max(0, asked.seed)
        elif asked.temperature > 0:
            attempt = 1 + self._sampled[text.id, asked.temperature]
        else:
            attempt = 0
        answer = asked.shorten(text.answer(attempt))
        if fault is not None and fault.kind in CHANGES:
            answer = change(answer, fault)
        written = tokens(answer.content) + tokens(self._reasoning(asked))
        return answer, Usage(tokens(asked.prompt), written, self._cached(asked.prompt))

    def _cached(self, prompt: str) -> int:
        """Tokens that the prompt begins with like the one before, in whole units as DeepSeek counts."""
        shared, longest = 0, min(len(prompt), len(self._last_prompt))
        while shared < longest:
            middle = (shared + longest + 1) // 2
            if prompt[shared:middle] == self._last_prompt[shared:middle]:
                shared = middle
            else:
                longest = middle - 1
        self._last_prompt = prompt
        return len(prompt[:shared].encode("utf-8", "surrogatepass")) // 4 // CACHE_UNIT * CACHE_UNIT

    def _reasoning(self, asked: Asked) -> str:
        return f"Let me see about {asked.text.id}." if self.settings.reasoning_content else ""

    def _body(self, asked: Asked, answer: Answer, usage: Usage, kind: str) -> bytes:
        self._number += 1
        message = {"role": "assistant", "content": answer.content}
        if self.settings.reasoning_content:
            message["reasoning_content"] = self._reasoning(asked)
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish_reason}
        reply = {
            "id": f"chatcmpl-{self._number}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": asked.model,
            "choices": [] if kind == "empty_choices" else [choice],
            "usage": None if kind == "no_usage" else usage.json(),
            "system_fingerprint": "fp_tests",
        }
        return json.dumps(reply, ensure_ascii=False).encode("utf-8", "surrogatepass")

    def latest(self) -> list[Seen]:
        """The latest requests, the oldest first."""
        return [Seen(id=asked.text.id, headers=headers, body=asked.body) for asked, headers in self.seen]


def refuse(error: Error, model: str, headers: dict[str, str] | None = None) -> web.Response:
    """An error with its body."""
    return web.Response(
        status=error.status, body=error.body(model), headers={"Content-Type": JSON} | (headers or {})
    )


class Server:
    """Every path of the server: the API and its control."""

    def __init__(self, chat: Chat) -> None:
        self.chat = chat

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request of any kind."""
        path = request.path
        if path == "/v1/chat/completions" and request.method == "POST":
            return await self.chat.answer(request)
        if path == "/v1/models":
            names = self.chat.settings.models or ("any-model",)
            models = [{"id": n, "object": "model", "created": 0, "owned_by": "tests"} for n in names]
            return json_response({"object": "list", "data": models})
        if path.startswith("/control"):
            return await self._control(request, path.removeprefix("/control").strip("/"))
        return refuse(Error(404, f"Invalid URL ({request.method} {path})", INVALID), "")

    async def _control(self, request: web.BaseRequest, what: str) -> web.Response:
        chat = self.chat
        if request.method == "POST":
            try:
                self._told(what, await request.read())
            except ValueError as e:
                return web.Response(status=400, text=str(e))
        if what == "counts":
            return web.Response(text=chat.ledger.counts().model_dump_json(), content_type=JSON)
        if what == "totals":
            return web.Response(text=chat.ledger.totals().model_dump_json(), content_type=JSON)
        if what == "arrivals":
            return json_response(list(chat.ledger.arrivals))
        if what == "seen":
            return json_response([s.model_dump() for s in chat.latest()])
        return web.Response(text=chat.orders.model_dump_json(), content_type=JSON)

    def _told(self, what: str, body: bytes) -> None:
        """POST /control replaces the fields it names; /control/fault adds one; /control/reset forgets."""
        chat = self.chat
        if what == "fault":
            faults = (*chat.orders.faults, Fault.model_validate_json(body))
            chat.obey(chat.orders.model_copy(update={"faults": faults}))
        elif what == "reset":
            chat.ledger.reset()
        else:
            named = Orders.model_validate_json(body)
            update = {name: getattr(named, name) for name in named.model_fields_set}
            chat.obey(chat.orders.model_copy(update=update))


async def run(settings: Settings, host: str) -> tuple[web.ServerRunner, int]:
    """Start to serve; gives the port."""
    server = web.Server(Server(Chat(settings)).handle, access_log=None)
    runner = web.ServerRunner(server)
    await runner.setup()
    site = web.TCPSite(runner, host, settings.port, backlog=4096)
    await site.start()
    return runner, int(runner.addresses[0][1])
