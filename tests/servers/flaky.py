"""A TCP proxy that loses a reply when told: the server has done the work, the client never hears of it."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from tests.servers.connections import end_connections
from tests.servers.s3 import LOOPBACK, S3Server

CHUNK = 1 << 16
HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True)
class Loss:
    """Which request loses its reply."""

    method: str
    path_contains: str

    def hits(self, request_line: str) -> bool:
        method, path, *_ = request_line.split(" ")
        return method == self.method and self.path_contains in path


@dataclass
class Proxy:
    """A server as its clients see it through the proxy, and what the proxy was told and did."""

    server: S3Server
    requests: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    _planned: list[Loss] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def drop_next_reply(self, method: str = "PUT", path_contains: str = "") -> None:
        """Lose the reply of the next such request, once; told twice, it loses two."""
        with self._lock:
            self._planned.append(Loss(method, path_contains))

    def loses_reply(self, request_line: str) -> bool:
        """Note a request and say whether its reply is lost, which fulfils that plan."""
        with self._lock:
            self.requests.append(request_line)
            plan = next((p for p in self._planned if p.hits(request_line)), None)
            if plan is None:
                return False
            self._planned.remove(plan)
            self.dropped.append(request_line)
            return True


@contextmanager
def serve(upstream: S3Server) -> Iterator[Proxy]:
    """Forward bytes between clients and `upstream`, unchanged, so that signatures hold."""
    address = urlsplit(upstream.endpoint)
    target = (address.hostname or LOOPBACK, address.port or 80)
    with socket.create_server((LOOPBACK, 0)) as listener:
        proxy = Proxy(replace(upstream, endpoint=f"http://{LOOPBACK}:{listener.getsockname()[1]}"))
        clients: list[socket.socket] = []
        thread = threading.Thread(target=accept, args=(listener, clients, target, proxy), daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            end_connections([listener])
            thread.join()
            end_connections(clients)


def accept(
    listener: socket.socket, clients: list[socket.socket], target: tuple[str, int], proxy: Proxy
) -> None:
    """One thread for each connection, until the listener is shut."""
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        clients.append(client)
        threading.Thread(target=converse, args=(client, target, proxy), daemon=True).start()


def converse(client: socket.socket, target: tuple[str, int], proxy: Proxy) -> None:
    """Forward one connection: request after request, each answered before the next is sent."""
    with suppress(ConnectionError), closing(client), socket.create_connection(target) as server:
        while True:
            head = receive_head(client)
            if not head:
                return
            lost = proxy.loses_reply(head.partition(b"\r\n")[0].decode("latin-1"))
            server.sendall(head)
            reply = await_reply(client, server)
            if lost or not reply:
                return
            client.sendall(reply)
            if not pass_reply_on(client, server):
                return


def receive_head(client: socket.socket) -> bytes:
    """Bytes up to the end of a request's head at least; empty when the client has gone."""
    head = b""
    while HEAD_END not in head:
        data = client.recv(CHUNK)
        if not data:
            return b""
        head += data
    return head


def await_reply(client: socket.socket, server: socket.socket) -> bytes:
    """Forward the rest of a request and give the first bytes of its reply; empty when a side has gone."""
    while True:
        readable, _, _ = select.select([client, server], [], [])
        if server in readable:
            data = server.recv(CHUNK)
            if not data.startswith(b"HTTP/1.1 100"):
                return data
            # Go on with the body; the reply proper is still to come.
            interim, end, rest = data.partition(HEAD_END)
            client.sendall(interim + end)
            if rest:
                return rest
        else:
            data = client.recv(CHUNK)
            if not data:
                return b""
            server.sendall(data)


def pass_reply_on(client: socket.socket, server: socket.socket) -> bool:
    """Forward the rest of a reply; True when the client begins its next request."""
    while True:
        readable, _, _ = select.select([client, server], [], [])
        if server in readable:
            data = server.recv(CHUNK)
            if not data:
                return False
            client.sendall(data)
        elif client in readable:
            return True
