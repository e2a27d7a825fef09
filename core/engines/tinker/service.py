"""The SDK's clients of one server: opened on first use, and replaced after a lost session."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core.engines.tinker import sdk
from core.engines.tinker.connection import Connection
from core.engines.tinker.waiting import Watch, plain
from core.errors import CheckpointGone, SessionLost, UnderstudyError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Client:
    """A training or sampling client, and the service client whose session it belongs to."""

    sdk: Any
    owner: Any
    service: Service

    def failed(self, error: BaseException, doing: str) -> UnderstudyError:
        """Return this project's error for one of the SDK's."""
        return self.service.failed(error, doing, self.owner)


class Service:
    """Clients for any thread; a training client stays with the thread that opened it."""

    def __init__(self, connection: Connection, watch: Watch) -> None:
        self.connection, self.watch = connection, watch
        self._lock = threading.Lock()
        self._client: Any = None
        self._lost: list[Any] = []
        self._rest: Any = None

    def client(self) -> Any:
        """Return the service client of a session that is not known to be lost. Raises PassingError."""
        with self._lock:
            if self._client is None:
                loaded = sdk.load()
                self.connection.probe()
                self._client = loaded.module.ServiceClient(
                    base_url=self.connection.server, api_key=self.connection.require_key()
                )
            return self._client

    def open(self, call: Callable[[Any], Any], doing: str) -> Client:
        """Wait for the client that `call` requests of the service client. Raises UnderstudyError."""
        owner = self.client()
        try:
            return Client(self.result(call(owner), doing), owner, self)
        except Exception as error:
            raise self.failed(error, doing, owner) from error

    def query(self, call: Callable[[Any], Any], doing: str) -> Any:
        """Wait for what `call` requests of the client without a session.

        Raises CheckpointGone if the server does not have what the request is about, else UnderstudyError.
        """
        with self._lock:
            rest = self._rest
        server = self.connection.server
        try:
            if rest is None:
                loaded = sdk.load()
                self.connection.probe()
                key = self.connection.require_key()
                if loaded.own_rest:
                    rest = loaded.module.RestClient(base_url=server, api_key=key)
                else:
                    rest = self.client().create_rest_client()
                with self._lock:
                    self._rest = rest
            return self.result(call(rest), doing)
        except Exception as error:
            if sdk.status_of(error) in sdk.GONE:
                raise CheckpointGone(f"{server} does not have (any more) what {doing} is about") from error
            raise sdk.translated(error, doing, server) from error

    def failed(self, error: BaseException, doing: str, client: Any) -> UnderstudyError:
        """Return this project's error for one of the SDK's; a client whose session is lost is not reused."""
        found = sdk.translated(error, doing, self.connection.server)
        if isinstance(found, SessionLost):
            with self._lock:
                if self._client is client:
                    self._client = None
                    self._lost.append(client)
        return found

    def close(self) -> None:
        """Finish the session on the server, and close the clients of lost ones, which would poll forever.

        They are not closed earlier, since other threads may still wait for their requests.
        """
        with self._lock:
            clients = [(client, "errored") for client in self._lost]
            if self._client is not None:
                clients.append((self._client, "success"))
            self._client, self._lost = None, []
        ends = {plain(c.close(how)): how for c, how in clients if hasattr(c, "close")}
        waiting = set(ends)
        while waiting:
            waiting -= self.watch.first(waiting, "the end of the session")
        for finished, how in ends.items():
            error = finished.exception()
            if how == "success" and error is not None:
                log.info("the session on %s did not end well: %s", self.connection.server, error)
        self.watch.queue.close()

    def result(self, value: Any, doing: str) -> Any:
        """Wait for the value of an SDK call; older versions return some values at once."""
        waits = hasattr(value, "future") or hasattr(value, "add_done_callback")
        return self.watch.result(plain(value), doing) if waits else value
