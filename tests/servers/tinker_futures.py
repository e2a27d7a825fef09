"""What the Tinker server has promised: a result for each request that it took in."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Literal

from aiohttp import web

from tests.servers.teacher_delivery import json_response
from tests.servers.tinker_faults import refuse
from tests.servers.tinker_orders import Orders
from tests.servers.tinker_proto import PROTOBUF, Answer, Forwarded


@dataclass(frozen=True, slots=True)
class Failed:
    """A request that came to nothing, and by whose fault."""

    error: str
    category: Literal["user", "server"]


Value = Forwarded | Answer | Failed | dict[str, object]


@dataclass(slots=True)
class Promise:
    """A result to come."""

    id: str
    value: Value | None = None
    kept: asyncio.Event = field(default_factory=asyncio.Event)

    def keep(self, value: Value) -> None:
        self.value = value
        self.kept.set()


class Promises:
    """All that were given since the process began; what an earlier one promised is lost with it."""

    def __init__(self) -> None:
        self._all: dict[str, Promise] = {}

    def give(self, id: str) -> Promise:
        promise = self._all[id] = Promise(id)
        return promise

    async def answer(self, id: str, accept: str, orders: Orders) -> web.Response:
        """The result, or that it is to be asked for again."""
        promise = self._all.get(id)
        if promise is None:
            return refuse(410, f"The promise {id} has expired or was never given")
        held = min(orders.poll_s, 0.2) if orders.queue_state != "active" else orders.poll_s
        try:
            await asyncio.wait_for(promise.kept.wait(), held)
        except TimeoutError:
            return _try_again(id, orders)
        return _result(promise.value, PROTOBUF in accept)


def _result(value: Value | None, protobuf: bool) -> web.Response:
    assert value is not None
    if isinstance(value, Failed):
        return json_response({"error": value.error, "category": value.category})
    if isinstance(value, dict):
        return json_response(value)
    if protobuf:
        return web.Response(body=value.encode(), content_type=PROTOBUF)
    return json_response(value.json())


def _try_again(id: str, orders: Orders) -> web.Response:
    body = {"type": "try_again", "request_id": id, "queue_state": orders.queue_state}
    if orders.queue_reason is not None:
        body["queue_state_reason"] = orders.queue_reason
    response = json_response(body)
    if orders.try_again == "status":
        response.set_status(408)
    return response
