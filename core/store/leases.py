"""Leases: of two runs that need the same thing, one makes it and the other waits and says so.

A lease is a small file with its holder's name and a counter that the holder raises while it works
(the heartbeat). It is free again when it is given back, when its holder is known to be dead, or
when the counter has stood still for `expiry` seconds by the waiter's own clock, so that machines
need not agree on the time. Gray & Cheriton 1989, "Leases".
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from core import milestones
from core.errors import UnderstudyError
from core.store import holder
from core.store.backend import Backend, Content
from core.store.clock import now, seconds_since

log = logging.getLogger(__name__)

FOLDER = "leases"
HEARTBEAT = 10.0
EXPIRY = 60.0
"""Seconds; six heartbeats, so that a busy machine does not lose what it holds."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How often a holder shows that it lives, and how long it is believed; in seconds."""

    heartbeat: float = HEARTBEAT
    expiry: float = EXPIRY
    poll: float = 1.0
    """Longest pause between two looks at a lease one waits for."""


TERMS = Terms()


@contextlib.contextmanager
def held(backend: Backend, name: str, what: str, terms: Terms) -> Iterator[None]:
    """Hold the lease `name`, waiting for it if need be; `what` is for people."""
    lease = _Lease(backend, f"{FOLDER}/{name}.json", what, terms)
    try:  # Ctrl-C may come in the very moment in which it is taken
        lease.take()
        milestones.passed(milestones.LEASE_TAKEN, name)
        yield
    finally:
        try:
            lease.give_back()
        except BaseException:  # or in which it is given back
            lease.give_back()
            raise


def is_live(backend: Backend, name: str) -> bool:
    """Whether somebody holds the lease now, as far as one look can tell."""
    found = backend.read(f"{FOLDER}/{name}.json")
    return found is not None and looks_live(_parsed(found.data))


def looks_live(lease: Mapping[str, Any]) -> bool:
    """Whether a lease's holder seems to be at work: it is not known dead, and its beat is young."""
    if not lease or holder.is_dead(lease["holder"]):
        return False
    return seconds_since(lease["beat_at"]) < EXPIRY


class _Lease:
    """One lease of this process, kept alive by a thread while it is held."""

    def __init__(self, backend: Backend, path: str, what: str, terms: Terms) -> None:
        self.backend, self.path, self.what, self.terms = backend, path, what, terms
        self._id, self._beats, self._data = holder.writer_id(), 0, b""
        self._taken_at = now()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self) -> None:
        """Return once it is ours."""
        wait = _Wait(self.what, self.terms)
        while not self._try(wait):
            time.sleep(wait.pause())
        self._thread = threading.Thread(target=self._beat, name=f"lease {self.what}", daemon=True)
        self._thread.start()

    def give_back(self) -> None:
        """Stop the heartbeat and remove the lease if it is still ours."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        try:
            found = self.backend.read(self.path)
            if found is not None and _parsed(found.data).get("id") == self._id:
                self.backend.discard(self.path, found.version)
        except UnderstudyError as e:  # what was made is safe; the lease expires by itself
            log.warning("the lease of %s was not given back: %s", self.what, e)

    def _try(self, wait: _Wait) -> bool:
        found = self.backend.read(self.path)
        if found is None:
            return self.backend.create(self.path, self._next())
        if wait.is_over(found):
            log.warning("%s: its maker is gone; going on in its place", self.what)
            return self.backend.swap(self.path, self._next(), found.version)
        return False

    def _next(self) -> bytes:
        self._beats += 1
        value = {
            "id": self._id,
            "beat": self._beats,
            "what": self.what,
            "holder": holder.this_process(),
            "taken_at": self._taken_at,
            "beat_at": now(),
        }
        return (json.dumps(value, indent=1) + "\n").encode()

    def _beat(self) -> None:
        while not self._ended.wait(self.terms.heartbeat):
            try:
                found = self.backend.read(self.path)
                ours = found is not None and _parsed(found.data).get("id") == self._id
                if found is None or not ours or not self.backend.swap(self.path, self._next(), found.version):
                    log.warning("the lease of %s was taken by another; both results are the same", self.what)
                    return
            except UnderstudyError as e:
                log.warning("the heartbeat of %s was not written: %s", self.what, e)


class _Wait:
    """What a waiter has seen of a lease."""

    def __init__(self, what: str, terms: Terms) -> None:
        self.what, self.terms = what, terms
        self._version: str | None = None
        self._since = time.monotonic()
        self._pause, self._told = 0.05, False

    def is_over(self, found: Content) -> bool:
        """Whether the lease is free to be taken."""
        lease = _parsed(found.data)
        if not lease or holder.is_dead(lease["holder"]):
            return True
        if found.version != self._version:
            self._version, self._since = found.version, time.monotonic()
        if not self._told:
            self._told = True
            log.info("%s: %s is at it; waiting", self.what, holder.named(lease["holder"]))
        return time.monotonic() - self._since > self.terms.expiry

    def pause(self) -> float:
        """Seconds until the next look: short at first."""
        self._pause = min(self._pause * 1.5, self.terms.poll)
        return self._pause


def _parsed(data: bytes) -> dict[str, Any]:
    """The lease in a file, empty where it is none: a lease nobody can read is nobody's."""
    try:
        value = json.loads(data)
        int(value["holder"]["pid"]), seconds_since(value["beat_at"])
        return dict(value)
    except (ValueError, TypeError, KeyError):
        return {}
