"""What all routes of the Tinker server share: sessions, models, checkpoints, records, orders."""

from __future__ import annotations

import secrets
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from core.engines.local import LocalEngine
from tests.servers.tinker_clock import Workshop
from tests.servers.tinker_compute import Base
from tests.servers.tinker_faults import Faults
from tests.servers.tinker_futures import Promises
from tests.servers.tinker_orders import Fault, Orders, Settings
from tests.servers.tinker_records import Beat, Records
from tests.servers.tinker_store import Shelf

FAULT = web.RequestKey("fault", Fault | None)  # type: ignore[arg-type]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Reply(Exception):
    """An error that a route answers with."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


class House:
    """The server's state: what is on disk outlives it, all else ends with the process."""

    def __init__(self, settings: Settings, engine: LocalEngine) -> None:
        folder = Path(settings.folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.settings, self.engine = settings, engine
        self.base = Base.read(engine.local_model.folder)
        self.shelf, self.records = Shelf(folder), Records(folder)
        self.orders, self.faults = settings.orders, Faults(settings.orders.faults)
        self.promises = Promises()
        self.workshop = Workshop(self.promises, lambda: self.orders)
        self.calls: Counter[str] = Counter()
        self.secret = secrets.token_hex(8)
        self._sessions: dict[str, bool] = {}

    def obey(self, orders: Orders) -> None:
        """Behave so from now on; what did not change goes on as it was."""
        if orders.faults != self.orders.faults:
            self.faults = Faults(orders.faults, self.faults)
        self.orders = orders
        self.workshop.obey()

    def open_session(self) -> str:
        id = str(uuid.uuid4())
        self._sessions[id] = True
        return id

    def check_session(self, id: str) -> None:
        """Raises Reply for a session that is over, or that this process never opened."""
        open = self._sessions.get(id)
        if open is None:
            raise Reply(404, f"Session {id} does not exist")
        if not open:
            raise Reply(410, f"Session {id} has finished")

    def beat(self, id: str) -> None:
        self.check_session(id)
        self.records.add(Beat(session=id))

    def end_session(self, id: str) -> None:
        self._sessions[id] = False

    def end_sessions(self) -> None:
        """As the service does with those that it has not heard of for long."""
        self._sessions = dict.fromkeys(self._sessions, False)

    def check_base(self, name: str) -> None:
        if name not in self.settings.names:
            known = ", ".join(self.settings.names)
            raise Reply(400, f"Unknown base model {name!r}; supported models: {known}")


async def body_of(request: web.Request) -> dict[str, Any]:
    """The JSON object of a request. Raises Reply."""
    try:
        found = await request.json()
    except ValueError as e:
        raise Reply(422, f"The body is no JSON: {e}") from e
    if not isinstance(found, dict):
        raise Reply(422, "The body is no JSON object")
    return found
