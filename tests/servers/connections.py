"""What servers of our own share: when one ends, so do its connections."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.servers.s3 import LOOPBACK


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
