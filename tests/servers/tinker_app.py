"""The Tinker server itself: one request from its arrival to its reply, and its control."""

from __future__ import annotations

import asyncio
import os
import traceback
from contextlib import suppress

from aiohttp import web
from pydantic import BaseModel

from core.engines.local import LocalEngine
from tests.servers.teacher_delivery import JSON, abort, json_response
from tests.servers.tinker_faults import refusal, refuse
from tests.servers.tinker_house import FAULT, Handler, House, Reply
from tests.servers.tinker_orders import Fault, Orders, Settings
from tests.servers.tinker_proto import Malformed
from tests.servers.tinker_records import RECORDS, prompt_hash
from tests.servers.tinker_rest import Rest
from tests.servers.tinker_sampling import Samplers, prompt_of
from tests.servers.tinker_store import NoSuchPath
from tests.servers.tinker_training import Training

_LARGEST_BODY = 1 << 28
# Tasks that nothing refers to may be collected while they run.
_WORK: list[asyncio.Task[None]] = []


class Door:
    """Lets requests in, or has them fail as told."""

    def __init__(self, house: House) -> None:
        self.house = house

    async def handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """A middleware; control passes unseen."""
        call = request.match_info.route.name
        if call is None or call == "control":
            return await _answered(handler, request)
        self.house.calls[call] += 1
        if not self._let_in(request, call):
            return refuse(401, "Invalid API key")
        fault = self.house.faults.hit(call, await self._prompt(request, call))
        if fault is None:
            return await _answered(handler, request)
        return await self._fail(request, handler, fault)

    def _let_in(self, request: web.Request, call: str) -> bool:
        """A link to a file carries its own permission."""
        key = self.house.orders.api_key
        return key is None or call in ("file", "archive_file") or request.headers.get("X-API-Key") == key

    async def _prompt(self, request: web.Request, call: str) -> str | None:
        if call != "asample" or not self.house.faults.look_at_prompts:
            return None
        return prompt_hash(prompt_of(await request.json()))

    async def _fail(self, request: web.Request, handler: Handler, fault: Fault) -> web.StreamResponse:
        refused = refusal(fault)
        if refused is not None:
            return refused
        if fault.kind == "drop":
            return abort(request)
        if fault.kind == "hang":
            await asyncio.sleep(fault.seconds)
            return abort(request)
        if fault.kind == "expired_session":
            self.house.end_sessions()
        request[FAULT] = fault
        response = await _answered(handler, request)
        if fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
        return abort(request) if fault.kind == "drop_taken" else response


async def _answered(handler: Handler, request: web.Request) -> web.StreamResponse:
    try:
        return await handler(request)
    except (Reply, NoSuchPath) as e:
        return refuse(e.status, str(e))
    except Malformed as e:
        return refuse(400, str(e))
    except KeyError as e:
        return refuse(422, f"The body lacks {e}")


class Control:
    """The control endpoint, for whoever runs the tests."""

    def __init__(self, house: House) -> None:
        self.house = house

    async def handle(self, request: web.Request) -> web.Response:
        """POST /control replaces the fields it names; /fault adds one; /expire ends checkpoints' time."""
        house, what = self.house, request.match_info["what"]
        if request.method == "POST":
            try:
                return self._told(what, await request.read())
            except (ValueError, NoSuchPath) as e:
                return web.Response(status=400, text=str(e))
        if what == "records":
            return web.Response(body=RECORDS.dump_json(house.records.rows), content_type=JSON)
        if what == "counts":
            return _json(house.records.counts(house.workshop.cycle, house.calls))
        return _json(house.orders)

    def _told(self, what: str, body: bytes) -> web.Response:
        house = self.house
        if what == "fault":
            faults = (*house.orders.faults, Fault.model_validate_json(body))
            house.obey(house.orders.model_copy(update={"faults": faults}))
        elif what == "expire":
            return json_response(house.shelf.expire(body.decode() or None))
        elif what == "end_sessions":
            house.end_sessions()
        elif what == "recover":
            house.obey(house.settings.orders)
        else:
            named = Orders.model_validate_json(body)
            update = {name: getattr(named, name) for name in named.model_fields_set}
            house.obey(house.orders.model_copy(update=update))
        return _json(house.orders)


def _json(value: BaseModel) -> web.Response:
    return web.Response(text=value.model_dump_json(), content_type=JSON)


async def run(settings: Settings, engine: LocalEngine, host: str) -> int:
    """Start to serve; gives the port."""
    house = House(settings, engine)
    samplers, door = Samplers(house), Door(house)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await door.handle(request, handler)

    app = web.Application(middlewares=[middleware], client_max_size=_LARGEST_BODY)
    for routes in (Training(house, samplers).routes(), samplers.routes(), Rest(house).routes()):
        app.add_routes(routes)
    app.router.add_route("*", "/control/{what:.*}", Control(house).handle, name="control")
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, host, settings.port, backlog=1024, reuse_address=True)
    await site.start()
    _WORK[:] = [asyncio.create_task(house.workshop.run()), asyncio.create_task(samplers.run())]
    for task in _WORK:
        task.add_done_callback(_end)
    return int(runner.addresses[0][1])


def _end(task: asyncio.Task[None]) -> None:
    """Whoever waits for a worker that is no more would wait for ever."""
    with suppress(asyncio.CancelledError):
        error = task.exception()
        traceback.print_exception(error)
        os._exit(1)
