"""While the engine waits it says for what, since when, and what the queue said."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from core.engines.base import AdamParams, Datum, LoraSpec
from core.engines.sampling import GenerateParams
from core.engines.tinker import TinkerEngine, Wait
from core.engines.tinker.waiting import LogWaits, Queue, Watch
from tests.servers import tinker


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def resumed_when(server: tinker.TinkerServer, condition: Callable[[], bool]) -> threading.Thread:
    """Let the server work on as soon as a condition holds."""

    def run() -> None:
        until(condition)
        server.resume()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_step_that_is_waited_for_is_named_with_the_queue_s_words(
    engine: TinkerEngine,
    server: tinker.TinkerServer,
    waits: list[Wait],
    lora: LoraSpec,
    adam: AdamParams,
    batches: list[list[Datum]],
) -> None:
    session = engine.open(lora, None)
    server.pause("paused_capacity", "no room for now")
    waits.clear()
    thread = resumed_when(server, lambda: any(wait.queue for wait in waits))
    session.submit(batches[0], adam, step=12).result()
    thread.join()
    assert waits[0].what == "step 12, forward and backward"
    assert [wait.seconds for wait in waits] == sorted(wait.seconds for wait in waits)
    # After it works again a slow machine may see another wait, of which the queue says nothing.
    assert {wait.queue for wait in waits} <= {None, "paused capacity: no room for now"}
    assert engine.watch.queue.state is None


def test_samples_that_are_waited_for_are_counted(
    engine: TinkerEngine, server: tinker.TinkerServer, waits: list[Wait]
) -> None:
    sampler = engine.sampler(None)
    server.pause("paused_rate_limit", "too many samplers")
    waits.clear()
    thread = resumed_when(server, lambda: any(wait.queue for wait in waits))
    sampler.generate([(1, 2), (3, 4)], GenerateParams(max_tokens=1))
    thread.join()
    assert waits[0].what == "completions, 0 of 2"
    assert any("too many samplers" in str(wait.queue) for wait in waits)


def test_a_wait_reads_as_a_sentence() -> None:
    assert str(Wait("step 12", 41.6, None)) == "waiting for step 12 for 42 s"
    assert str(Wait("a save", 5, "paused: why")) == "waiting for a save for 5 s, queue: paused: why"


def test_the_queue_s_last_words_are_forgotten_when_it_works_again() -> None:
    queue = Queue()
    try:
        queue.on_queue_state_change("paused_capacity", None)
        assert queue.state == "paused capacity"
        queue.on_queue_state_change("active", None)
        assert not queue.state
    finally:
        queue.close()


def test_long_waits_are_logged_each_minute(caplog: pytest.LogCaptureFixture) -> None:
    report = LogWaits()
    with caplog.at_level(logging.INFO):
        for seconds in range(0, 200, 10):
            report(Wait("step 1", float(seconds), None))
    assert [record.getMessage() for record in caplog.records] == [
        f"waiting for step 1 for {seconds} s" for seconds in (60, 120, 180)
    ]


def test_evaluation_goes_on_beside_training(
    engine: TinkerEngine,
    server: tinker.TinkerServer,
    lora: LoraSpec,
    adam: AdamParams,
    batches: list[list[Datum]],
) -> None:
    """A sampler on another thread, one engine: both finish, and each says its own."""
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


def test_each_thread_is_told_of_its_own_waits() -> None:
    watch = Watch(lambda wait: None, tick_s=0.01)
    told: dict[str, list[str]] = {"here": [], "there": []}
    never: dict[str, Future[int]] = {"here": Future(), "there": Future()}

    def wait(name: str) -> None:
        with watch.reporting(lambda wait: told[name].append(str(wait))):
            watch.result(never[name], f"what is wanted {name}")

    threads = [threading.Thread(target=wait, args=(name,)) for name in never]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    for future in never.values():
        future.set_result(1)
    for thread in threads:
        thread.join()
    for name, words in told.items():
        assert words
        assert all(said.startswith(f"waiting for what is wanted {name} for ") for said in words)
