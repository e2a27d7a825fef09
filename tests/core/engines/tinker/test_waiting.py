"""Waits are reported with what is waited for, their duration and the queue's state."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from core.engines import AdamParams, Datum, GenerateParams, LoraSpec
from core.engines.tinker import Connection, TinkerEngine, service
from core.engines.tinker.service import Queue, Service
from tests.servers import tinker


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def resumed_when(server: tinker.TinkerServer, condition: Callable[[], bool]) -> threading.Thread:
    """Let the server continue as soon as a condition is true."""

    def run() -> None:
        until(condition)
        server.resume()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_waits_for_a_step_are_reported_with_the_queues_state(
    engine: TinkerEngine,
    server: tinker.TinkerServer,
    waits: list[str],
    lora: LoraSpec,
    adam: AdamParams,
    batches: list[list[Datum]],
) -> None:
    session = engine.open(lora, None)
    server.pause("paused_capacity", "no room for now")
    waits.clear()
    thread = resumed_when(server, lambda: any("queue" in wait for wait in waits))
    session.submit(batches[0], adam, step=12).result()
    thread.join()
    assert waits[0] == "waiting for step 12, forward and backward for 0 s"
    # After it works again a slow machine may see another wait, without a state of the queue.
    assert {wait.partition(", queue: ")[2] for wait in waits} <= {"", "paused capacity: no room for now"}
    assert engine.service.queue.state is None


def test_waits_for_samples_are_reported_with_their_count(
    engine: TinkerEngine, server: tinker.TinkerServer, waits: list[str]
) -> None:
    sampler = engine.sampler(None)
    server.pause("paused_rate_limit", "too many samplers")
    waits.clear()
    thread = resumed_when(server, lambda: any("queue" in wait for wait in waits))
    sampler.generate([(1, 2), (3, 4)], GenerateParams(max_tokens=1))
    thread.join()
    assert waits[0].startswith("waiting for completions, 0 of 2 for ")
    assert any("too many samplers" in wait.partition(", queue: ")[2] for wait in waits)


def test_the_queues_state_is_cleared_when_it_works_again() -> None:
    queue = Queue()
    try:
        queue.on_queue_state_change("paused_capacity", None)
        assert queue.state == "paused capacity"
        queue.on_queue_state_change("active", None)
        assert not queue.state
    finally:
        queue.close()


def test_long_waits_are_logged_at_intervals(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, connected: Connection
) -> None:
    monkeypatch.setattr(service, "LOG_EVERY_S", 0.2)
    waits, future = Service(connected), Future[int]()
    waits.tick_s = 0.01
    threading.Timer(0.5, future.set_result, [1]).start()
    with caplog.at_level(logging.INFO):
        assert waits.result(future, "step 1") == 1
    assert {record.getMessage() for record in caplog.records} <= {"waiting for step 1 for 0 s"}
    assert 1 <= len(caplog.records) <= 2


def test_evaluation_continues_during_training(
    engine: TinkerEngine,
    server: tinker.TinkerServer,
    lora: LoraSpec,
    adam: AdamParams,
    batches: list[list[Datum]],
) -> None:
    """One engine, with a sampler on another thread: both finish, and each reports its own waits."""
    session, sampler = engine.open(lora, None), engine.sampler(None)
    found: list[int] = []
    thread = threading.Thread(
        target=lambda: found.append(len(sampler.score([(1, 2, 3)] * 40, [(4,), (5,)]).logprobs))
    )
    thread.start()
    steps = [session.submit(batches[i], adam, step=i) for i in range(8)]
    assert len([step.result() for step in steps]) == 8
    thread.join()
    assert found == [40]


def test_each_thread_reports_its_own_waits(connected: Connection) -> None:
    watch = Service(connected)
    watch.tick_s = 0.01
    reported: dict[str, list[str]] = {"here": [], "there": []}
    never: dict[str, Future[int]] = {"here": Future(), "there": Future()}

    def wait(name: str) -> None:
        with watch.reporting(reported[name].append):
            watch.result(never[name], f"what is wanted {name}")

    threads = [threading.Thread(target=wait, args=(name,)) for name in never]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    for future in never.values():
        future.set_result(1)
    for thread in threads:
        thread.join()
    for name, words in reported.items():
        assert words
        assert all(message.startswith(f"waiting for what is wanted {name} for ") for message in words)
