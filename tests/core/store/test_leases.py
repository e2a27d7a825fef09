"""Leases: one process builds, the others wait, and a dead holder does not block them."""

from __future__ import annotations

import dataclasses
import json
import logging
import multiprocessing
import threading
import time
from typing import Any

import pytest

from core.config import ConfigSection
from core.progress import Silent
from core.stage import Stage, StageCall, StageIO, build
from core.store import Store, leases
from core.store.leases import LeaseTerms

QUICK = LeaseTerms(heartbeat=0.05, expiry=0.5, poll=0.05)


@pytest.fixture
def quick(store: Store) -> Store:
    """A store whose leases expire within half a second."""
    return dataclasses.replace(store, terms=QUICK)


class Nothing(ConfigSection):
    """Settings without a field."""


def stage_of(seconds: float, calls: list[float]) -> StageCall:
    """A slow stage that counts how often it is built."""

    def run(config: Nothing, io: StageIO) -> dict[str, Any]:
        calls.append(time.monotonic())
        time.sleep(seconds)
        (io.out / "out.txt").write_text("made\n")
        return {}

    return Stage("split", 1, run, Nothing, content=lambda *_: {"x": "y"}).call(Nothing())


def test_two_runs_that_need_the_same_stage_build_it_once(
    quick: Store, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[float] = []
    found = []

    def one() -> None:
        found.append(build(quick, stage_of(1.2, calls), Silent()))

    with caplog.at_level(logging.INFO):
        threads = [threading.Thread(target=one) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(calls) == 1, "longer than the expiry, so it was the heartbeat that kept the lease"
    assert sorted(made.reused for made in found) == [False, True]
    assert "waiting for the lease, held by process" in caplog.text


def test_a_lease_is_released_after_a_failure(quick: Store) -> None:
    def fail() -> None:
        with quick.lease("split/k", "split"):
            assert leases.is_live(quick.backend, "split/k")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        fail()
    assert not leases.is_live(quick.backend, "split/k")
    assert quick.backend.list("leases") == []


def foreign(store: Store, **changes: Any) -> None:
    """Write a lease of another machine, without a heartbeat."""
    value = {
        "id": "other",
        "beat": 1,
        "what": "split",
        "holder": {"host": "far", "machine": "far", "pid": 1, "started": "1"},
        "taken_at": "2026-01-01T00:00:00+00:00",
        "beat_at": "2026-01-01T00:00:00+00:00",
    }
    store.backend.write("leases/split/k.json", json.dumps({**value, **changes}).encode())


def test_a_lease_without_heartbeat_expires_by_the_waiters_clock(quick: Store) -> None:
    foreign(quick, beat_at="2099-01-01T00:00:00+00:00")
    started = time.monotonic()
    with quick.lease("split/k", "split"):
        took = time.monotonic() - started
    assert QUICK.expiry <= took < 20


def test_the_lease_of_a_dead_local_process_is_free_at_once(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    process = multiprocessing.get_context("spawn").Process(target=int)
    process.start()
    who = {**leases.this_process(), "pid": process.pid, "started": "never"}
    process.join()
    foreign(store, holder=who)
    started = time.monotonic()
    with caplog.at_level(logging.WARNING), store.lease("split/k", "split"):
        assert time.monotonic() - started < 5
    assert "its holder is gone" in caplog.text


def test_a_reused_process_number_is_not_the_holder(quick: Store) -> None:
    assert leases.is_dead({**leases.this_process(), "started": "0"})
    assert not leases.is_dead(leases.this_process())


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"[]",
        b"\xff",
        b'{"holder": 5, "beat_at": "2026-11-22T20:00:00+00:00"}',
        b'{"holder": {}, "beat_at": "2026-11-22T20:00:00+00:00"}',
        b'{"holder": {"pid": 1}, "beat_at": "x"}',
    ],
)
def test_an_unreadable_lease_is_free(store: Store, data: bytes) -> None:
    store.backend.write("leases/split/k.json", data)
    assert not leases.is_live(store.backend, "split/k")
    with store.lease("split/k", "split"):
        assert leases.is_live(store.backend, "split/k")


def test_a_lost_lease_is_logged_and_not_removed(quick: Store, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), quick.lease("split/k", "split"):
        foreign(quick)
        time.sleep(0.5)
    assert "was taken over" in caplog.text
    assert [f.path for f in quick.backend.list("leases")] == ["leases/split/k.json"]
