"""Leases: of two runs that need the same object, one builds it and the other waits.

A lease is a small file with the holder's identity and a counter that the holder raises while it works (the
heartbeat). It is free when it is released, when its holder is known to be dead, or when the counter has not
changed for `expiry` seconds of the waiter's own clock, so that machines need not agree on the time.
Gray & Cheriton 1989, "Leases".
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import logging
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from core import durable
from core.errors import UnderstudyError
from core.jsonio import indented, now
from core.store.backend import Backend

log = logging.getLogger(__name__)

FOLDER = "leases"


@dataclass(frozen=True, slots=True)
class LeaseTerms:
    """Timing of leases, in seconds."""

    heartbeat: float = 10.0
    expiry: float = 60.0
    """Six heartbeats, so that a busy machine keeps its leases."""
    poll: float = 1.0
    """The longest pause of a waiter between two looks."""


TERMS = LeaseTerms()


@contextlib.contextmanager
def held(backend: Backend, name: str, what: str, terms: LeaseTerms) -> Iterator[None]:
    """Hold the lease `name`, waiting for it if need be; `what` is for log messages."""
    lease = _Lease(backend, f"{FOLDER}/{name}.json", what, terms)
    try:  # Ctrl-C may arrive while the lease is acquired
        lease.acquire()
        durable.failpoint(durable.LEASE_TAKEN, name)
        yield
    finally:
        try:
            lease.release()
        except BaseException:  # or while it is released
            lease.release()
            raise


def is_live(backend: Backend, name: str) -> bool:
    """Whether the holder of a lease seems to be at work: not known to be dead, and with a recent beat."""
    found = backend.read(f"{FOLDER}/{name}.json")
    lease = _parsed(found.data) if found is not None else {}
    return bool(lease) and not is_dead(lease["holder"]) and _age(lease["beat_at"]) < TERMS.expiry


def writer_id() -> str:
    """A name for one writing of one process, never used twice."""
    return f"{os.getpid()}-{uuid.uuid4().hex[:8]}"


def this_process() -> dict[str, Any]:
    """The identity of this process among all processes of all machines."""
    pid = os.getpid()
    return {"host": platform.node(), "machine": _machine(), "pid": pid, "started": _started(pid)}


def is_dead(holder: Mapping[str, Any]) -> bool:
    """Whether a process is known to have ended, which can be known on its own machine only."""
    if holder.get("machine") != _machine():
        return False
    pid = int(holder["pid"])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return _started(pid) != holder.get("started") or _stat(pid)[:1] == ["Z"]  # a zombie


class _Lease:
    """One lease of this process; a thread sends the heartbeat while it is held."""

    def __init__(self, backend: Backend, path: str, what: str, terms: LeaseTerms) -> None:
        self.backend, self.path, self.what, self.terms = backend, path, what, terms
        self._id, self._beats, self._taken_at = writer_id(), 0, now()
        self._released = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self) -> None:
        """Return once this process holds the lease."""
        version, since, pause = "", time.monotonic(), 0.05
        while True:
            found = self.backend.read(self.path)
            if found is None:
                acquired = self.backend.create(self.path, self._next())
            else:
                lease = _parsed(found.data)
                free = not lease or is_dead(lease["holder"])
                if not free:
                    if not version:
                        holder = "process {pid} on {host}".format(**{"host": "?", **lease["holder"]})
                        log.info("%s: waiting for the lease, held by %s", self.what, holder)
                    if found.version != version:
                        version, since = found.version, time.monotonic()
                    free = time.monotonic() - since > self.terms.expiry
                if free:
                    log.warning("%s: taking over the lease, its holder is gone", self.what)
                acquired = free and self.backend.swap(self.path, self._next(), found.version)
            if acquired:
                break
            pause = min(pause * 1.5, self.terms.poll)
            time.sleep(pause)
        self._thread = threading.Thread(target=self._beat, name=f"lease {self.what}", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Stop the heartbeat and remove the lease if it is still that of this process."""
        self._released.set()
        if self._thread is not None:
            self._thread.join()
        try:
            found = self.backend.read(self.path)
            if found is not None and _parsed(found.data).get("id") == self._id:
                self.backend.discard(self.path, found.version)
        except UnderstudyError as e:  # what was built is safe; the lease expires by itself
            log.warning("the lease of %s was not released: %s", self.what, e)

    def _next(self) -> bytes:
        self._beats += 1
        value = {
            "id": self._id,
            "beat": self._beats,
            "what": self.what,
            "holder": this_process(),
            "taken_at": self._taken_at,
            "beat_at": now(),
        }
        return indented(value, 1).encode()

    def _beat(self) -> None:
        while not self._released.wait(self.terms.heartbeat):
            try:
                found = self.backend.read(self.path)
                ours = found is not None and _parsed(found.data).get("id") == self._id
                if found is None or not ours or not self.backend.swap(self.path, self._next(), found.version):
                    log.warning("the lease of %s was taken over; both results are the same", self.what)
                    return
            except UnderstudyError as e:
                log.warning("the heartbeat of %s was not written: %s", self.what, e)


def _parsed(data: bytes) -> dict[str, Any]:
    """The lease in a file, empty if it cannot be read: such a lease has no holder."""
    try:
        value = json.loads(data)
        int(value["holder"]["pid"]), _age(value["beat_at"])
        return dict(value)
    except (ValueError, TypeError, KeyError):
        return {}


def _age(moment: str) -> float:
    """Seconds since a timestamp."""
    return (dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(moment)).total_seconds()


@lru_cache
def _machine() -> str:
    """Host, boot and PID namespace: where a process number means the same process."""
    parts = [platform.node()]
    boot = Path("/proc/sys/kernel/random/boot_id")
    if boot.exists():
        parts.append(boot.read_text(encoding="ascii").strip())
        parts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return "/".join(parts)


def _started(pid: int) -> str:
    """The start of a process in clock ticks, so that a reused number is not taken for it."""
    fields = _stat(pid)
    return fields[19] if len(fields) > 19 else ""


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat after the name, first the state; empty where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()
