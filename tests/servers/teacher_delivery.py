"""How a finished reply goes out over the connection, or does not."""

from __future__ import annotations

import asyncio
import json
import socket
import struct

from aiohttp import web

from tests.servers.teacher_faults import HTML
from tests.servers.teacher_orders import Fault

JSON = "application/json"
PIECES = 20
AT_ONCE = struct.pack("ii", 1, 0)


async def deliver(
    request: web.BaseRequest, body: bytes, headers: dict[str, str], fault: Fault | None
) -> tuple[web.StreamResponse, bool]:
    """Send the body as the fault has it; also whether a whole reply went out."""
    kind = fault.kind if fault else ""
    seconds = fault.seconds if fault else 0.0
    if kind == "disconnect_billed":
        return abort(request), False
    if kind == "disconnect_midway":
        return await _send_half(request, body, headers), False
    if kind == "drip":
        pieces = [body[at : at + _step(body)] for at in range(0, len(body), _step(body))]
        return await _send_slowly(request, pieces, headers, seconds)
    if kind == "blank_lines":
        return await _send_slowly(request, [b"\n"] * PIECES + [body], headers, seconds)
    content_type = JSON
    if kind == "broken_body":
        body = body[: len(body) // 2]
    elif kind == "html_page":
        body, content_type = HTML, "text/html"
    response = web.Response(body=body, headers={"Content-Type": content_type, **headers})
    return response, is_open(request)


def is_open(request: web.BaseRequest) -> bool:
    """Whether the client is still there, as far as this side can know."""
    transport = request.transport
    return transport is not None and not transport.is_closing()


def abort(request: web.BaseRequest, *, reset: bool = False) -> web.Response:
    """Close the connection, so that the response that is given back reaches nobody."""
    transport = request.transport
    if transport is not None:
        if reset:
            # With no time to linger, closing sends RST in the place of FIN.
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        transport.abort()
    return web.Response()


def json_response(value: object) -> web.Response:
    """A value of JSON with status 200."""
    return web.Response(body=json.dumps(value).encode(), headers={"Content-Type": JSON})


async def _send_half(request: web.BaseRequest, body: bytes, headers: dict[str, str]) -> web.StreamResponse:
    """The head promises the whole body."""
    response = web.StreamResponse(headers={"Content-Type": JSON, **headers})
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    if request.transport is not None:
        # Closing, and not aborting, lets the half go out first.
        request.transport.close()
    return response


async def _send_slowly(
    request: web.BaseRequest, pieces: list[bytes], headers: dict[str, str], seconds: float
) -> tuple[web.StreamResponse, bool]:
    response = web.StreamResponse(headers={"Content-Type": JSON, **headers})
    try:
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(seconds / len(pieces))
    except ConnectionError:
        return response, False
    return response, is_open(request)


def _step(body: bytes) -> int:
    return max(1, len(body) // PIECES)
