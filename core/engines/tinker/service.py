"""The SDK's clients of one server: opened when first needed, and anew once their session was lost."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core.engines.tinker import sdk
from core.engines.tinker.connection import Connection
from core.engines.tinker.failures import status_of, translated
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
        """This project's error for one of the SDK's."""
        return self.service.failed(error, doing, self.owner)


class Service:
    """Clients that any thread may ask for; what a training client made stays with its own thread."""

    def __init__(self, connection: Connection, watch: Watch) -> None:
        self.connection, self.watch = connection, watch
        self._lock = threading.Lock()
        self._client: Any = None
        self._lost: list[Any] = []
        self._rest: Any = None

    def client(self) -> Any:
        """The service client of a session that is not known to be lost. Raises PassingError."""
        with self._lock:
            if self._client is None:
                loaded = sdk.load()
                self.connection.probe()
                self._client = loaded.module.ServiceClient(
                    base_url=self.connection.server, api_key=self.connection.require_key()
                )
            return self._client

    def ask(self, call: Callable[[Any], Any], doing: str) -> tuple[Any, Any]:
        """What `call` makes of the service client, waited for, and that client. Raises UnderstudyError."""
        client = self.client()
        try:
            return self.got(call(client), doing), client
        except Exception as error:
            raise self.failed(error, doing, client) from error

    def look(self, call: Callable[[Any], Any], doing: str) -> Any:
        """What `call` makes of the client that needs no session, waited for.

        Raises CheckpointGone where the server does not know what is asked about, UnderstudyError.
        """
        try:
            return self.got(call(self._rest_client()), doing)
        except Exception as error:
            server = self.connection.server
            if status_of(error) in (404, 410):
                raise CheckpointGone(f"{server} does not have (any more) what {doing} is about") from error
            raise translated(error, doing, server) from error

    def failed(self, error: BaseException, doing: str, client: Any) -> UnderstudyError:
        """This project's error for one of the SDK's; a client whose session is lost is not used again."""
        found = translated(error, doing, self.connection.server)
        if isinstance(found, SessionLost):
            with self._lock:
                if self._client is client:
                    self._client = None
                    self._lost.append(client)
        return found

    def close(self) -> None:
        """Finish the session on the server, and let the clients of lost ones go: they would call for ever.

        Not before, since other threads may still wait for what they asked a lost one.
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
            if how == "success" and finished.exception() is not None:
                log.info(
                    "the session on %s did not end well: %s", self.connection.server, finished.exception()
                )
        self.watch.queue.close()

    def got(self, value: Any, doing: str) -> Any:
        """What a call of the SDK comes to; its older versions give some values at once."""
        waits = hasattr(value, "future") or hasattr(value, "add_done_callback")
        return self.watch.result(plain(value), doing) if waits else value

    def _rest_client(self) -> Any:
        with self._lock:
            known = self._rest
        if known is None:
            loaded = sdk.load()
            self.connection.probe()
            known = loaded.rest(self.client, self.connection.server, self.connection.require_key())
            with self._lock:
                self._rest = known
        return known
