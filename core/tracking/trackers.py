"""The trackers of one run: what they are told first, as it goes on, and at its end."""

from __future__ import annotations

import contextlib
import functools
import json
import uuid
from collections.abc import Iterable, Iterator
from operator import getitem
from typing import Any

from core.config import Config
from core.config.loading import held
from core.optional import Failures, Part
from core.store.runs import SUMMARY, RunView
from core.tracking.process import Tracker
from core.tracking.records import Point, of_summary

FILE = "trackers.json"
NAMES = ("wandb", "mlflow")


class Trackers:
    """All that the config names; none is the usual case."""

    def __init__(self, each: Iterable[Tracker] = (), failures: Failures | None = None) -> None:
        self.each = list(each)
        self._failures = failures if failures is not None else Failures()
        self._ended = False

    def tell(self, points: Iterable[Point]) -> None:
        """Pass points on. A tracker that fails is recorded; it affects nothing else."""
        told = list(points) if self.each else []
        for tracker in self.each:
            with self._failures.optional(Part.TRACKER, tracker.name):
                tracker.tell(told)
        self._record()

    def finish(self, view: RunView) -> None:
        """Pass on what the run came to, and end as finished."""
        if self.each and not self._ended:
            with self._failures.optional(Part.TRACKER, "final figures"):
                self.tell(_final(view))
        self.end("finished")

    def end(self, state: str) -> None:
        """Wait, no longer than patience goes, for what is still on its way; only once."""
        if self._ended:
            return
        self._ended = True
        for tracker in self.each:
            with self._failures.optional(Part.TRACKER, tracker.name):
                tracker.end(state)
        for tracker in self.each:
            with self._failures.optional(Part.TRACKER, tracker.name):
                tracker.wait()
        self._record()

    def _record(self) -> None:
        """The failures that trackers noticed, and logged, themselves."""
        for tracker in self.each:
            if tracker.failure is not None:
                self._failures.add(tracker.failure)


@contextlib.contextmanager
def tracked(config: Config, view: RunView, failures: Failures | None = None) -> Iterator[Trackers]:
    """The trackers of a run while it goes on; at its end they are told what it came to.

    Those that fail are added to `failures`.
    """
    failures = failures if failures is not None else Failures()
    settings = {name: getattr(config.trackers, name) for name in NAMES}
    named = {name: section for name, section in settings.items() if section is not None}
    if not named:
        yield Trackers()
        return
    record = failures.attempt(Part.TRACKER, FILE, lambda: _record(view), _new_record)
    run = {"id": record["id"], "name": view.name, "config": _flat(config)}
    begun: list[Tracker] = []
    for name, section in named.items():
        first = {"tracker": name, "settings": section.model_dump(), "run": run}
        with failures.optional(Part.TRACKER, name):
            begun.append(Tracker(name, first, record["told"].get(name, {}), config.trackers.patience_s))
    trackers, state = Trackers(begun, failures), "failed"
    try:
        yield trackers
        state = "finished"
        trackers.finish(view)
    except BaseException as e:
        state = "failed" if isinstance(e, Exception) else "stopped"
        raise
    finally:
        trackers.end(state)
        told = {tracker.name: tracker.known for tracker in begun if tracker.works}
        with failures.optional(Part.TRACKER, FILE):
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
    made = _new_record()
    view.write_json(FILE, made)
    return made


def _new_record() -> dict[str, Any]:
    return {"id": uuid.uuid4().hex[:16], "told": {}}


def _flat(config: Config) -> dict[str, Any]:
    """The config by dotted keys; it holds names of credentials, never credentials."""
    whole = config.model_dump(mode="json")
    return {".".join(key): functools.reduce(getitem, key, whole) for key in held(config)}
