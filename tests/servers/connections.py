"""What servers of our own share: when one ends, so do its connections; and how one is told things."""

from __future__ import annotations

import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.servers.s3 import LOOPBACK


def tell(base_url: str, what: str, body: str | None = None) -> bytes:
    """Ask or, with a body, tell the control endpoint of a running server; its answer.

    Raises ValueError, with what it said, for an order that it refuses.
    """
    data = None if body is None else body.encode()
    request = urllib.request.Request(f"{base_url}/control/{what}", data)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            found: bytes = reply.read()
    except urllib.error.HTTPError as e:
        raise ValueError(e.read().decode()) from e
    return found


def end_connections(sockets: Iterable[socket.socket]) -> None:
    """Shut every socket, which wakes whoever waits on it.

    Closing the listener alone leaves kept-alive connections served by their threads.
    """
    for each in sockets:
        # It may have ended by itself.
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@contextmanager
def http_server(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve HTTP on a free loopback port, a thread for each connection; gives the endpoint."""
    server = Server((LOOPBACK, 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://{LOOPBACK}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        end_connections(server.connections)


class Server(ThreadingHTTPServer):
    """One that knows its connections."""

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self.connections: list[socket.socket] = []

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.append(request)
        super().process_request(request, client_address)
