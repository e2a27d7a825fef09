"""A table made known on Prefect's server, so that a deployment's trigger can start a run on it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

from prefect.events.schemas.events import Event

from core.data.publishing import PublishedTable
from flows.server import connected

EVENT = "understudy.dataset.published"
RESOURCE = "understudy.dataset."


def publish(table: PublishedTable) -> Event:
    """Emit the event and return it, once the server has taken it.

    By a request and not by Prefect's `emit_event`, which tells nobody when the server is not there.
    """
    payload = {k: v for k, v in asdict(table).items() if v is not None}
    resource = {"prefect.resource.id": RESOURCE + table.name, "prefect.resource.name": table.name}
    event = Event.model_validate(
        {"event": EVENT, "occurred": datetime.now(UTC), "resource": resource, "payload": payload}
    )
    with connected() as client:
        client.request("POST", "/events", json=[event.model_dump(mode="json")])
    return event
