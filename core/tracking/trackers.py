"""The trackers of one run: what they are told first, as it goes on, and at its end."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import uuid
from collections.abc import Iterable, Iterator
from operator import getitem
from typing import Any

from core.config import Config
from core.config.loading import held
from core.store.runs import SUMMARY, RunView
from core.tracking.process import Tracker
from core.tracking.records import Point, of_summary

log = logging.getLogger(__name__)

FILE = "trackers.json"
NAMES = ("wandb", "mlflow")


class Trackers:
    """All that the config names; none is the usual case."""

    def __init__(self, each: Iterable[Tracker] = ()) -> None:
        self.each = list(each)

    def tell(self, points: Iterable[Point]) -> None:
        """Pass points on."""
        told = list(points) if self.each else []
        for tracker in self.each:
            tracker.tell(told)

    def end(self, state: str) -> None:
        """Wait a little for what is still on its way."""
        for tracker in self.each:
            tracker.end(state)
        for tracker in self.each:
            tracker.wait()


@contextlib.contextmanager
def tracked(config: Config, view: RunView) -> Iterator[Trackers]:
    """The trackers of a run while it goes on; at its end they are told what it came to."""
    settings = {name: getattr(config.trackers, name) for name in NAMES}
    named = {name: section for name, section in settings.items() if section is not None}
    if not named:
        yield Trackers()
        return
    record = _record(view)
    run = {"id": record["id"], "name": view.name, "config": _flat(config)}
    begun: list[Tracker] = []
    for name, section in named.items():
        first = {"tracker": name, "settings": section.model_dump(), "run": run}
        try:
            begun.append(Tracker(name, first, record["told"].get(name, {}), config.trackers.patience_s))
        except OSError as e:
            log.warning("tracker %s could not be started: %s; the run goes on without it", name, e)
    trackers, state = Trackers(begun), "failed"
    try:
        yield trackers
        state = "finished"
        with contextlib.suppress(OSError, ValueError):  # the store is the run's own affair
            trackers.tell(_final(view))
    except BaseException as e:
        state = "failed" if isinstance(e, Exception) else "stopped"
        raise
    finally:
        trackers.end(state)
        told = {tracker.name: tracker.known for tracker in begun if tracker.works}
        with contextlib.suppress(OSError):
            view.write_json(FILE, {**record, "told": {**record["told"], **told}})


def _final(view: RunView) -> Iterator[Point]:
    text = view.read(SUMMARY)
    if text is not None:
        yield of_summary(json.loads(text))


def _record(view: RunView) -> dict[str, Any]:
    """The id under which trackers know the run, and what they were told."""
    with contextlib.suppress(ValueError, AttributeError):
        found: dict[str, Any] = json.loads(view.read(FILE) or "null")
        if {"id", "told"} <= found.keys():
            return found
    made: dict[str, Any] = {"id": uuid.uuid4().hex[:16], "told": {}}
    view.write_json(FILE, made)
    return made


def _flat(config: Config) -> dict[str, Any]:
    """The config by dotted keys; it holds names of credentials, never credentials."""
    whole = config.model_dump(mode="json")
    return {".".join(key): functools.reduce(getitem, key, whole) for key in held(config)}
