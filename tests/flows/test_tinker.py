"""A student on a server, through Prefect: failures are retried, and no step is lost."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.flows.running import distill
from tests.pipeline.running import folder_of
from tests.pipeline.test_tinker import NAME, PATIENCE, assert_each_step_once, overrides, steps
from tests.servers import tinker

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture(scope="module")
def running(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tinker.TinkerServer]:
    """One server for the module, over the tiny model with the real tokenizer."""
    folder = tmp_path_factory.mktemp("server")
    with tinker.serve(tiny_model, folder, names=(NAME,), logprobs="weighted") as server:
        yield server


@pytest.fixture
def server(running: tinker.TinkerServer, monkeypatch: pytest.MonkeyPatch) -> tinker.TinkerServer:
    running.recover()
    monkeypatch.setenv("TINKER_API_KEY", tinker.KEY)
    monkeypatch.setenv("TINKER_TELEMETRY", "0")
    return running


@contextmanager
def restarted_after(server: tinker.TinkerServer, since: int, steps_done: int) -> Iterator[None]:
    """Within the block, kill and restart the server once after this many steps."""

    def watch() -> None:
        until = time.monotonic() + PATIENCE
        while len(steps(server, since)) < steps_done and time.monotonic() < until:
            time.sleep(0.05)
        server.restart()

    thread = threading.Thread(target=watch)
    thread.start()
    yield
    thread.join()


def test_a_server_restart_repeats_no_step(
    project: Path, server: tinker.TinkerServer, tiny_model: Path
) -> None:
    since = len(server.records())
    changes = overrides(server, tiny_model)
    server.cycle(0.4)
    with restarted_after(server, since, steps_done=3):
        distill(project, *changes, skip=["export"])
    assert_each_step_once(server, since)
    history = [json.loads(line) for line in (folder_of(project) / "student_phase/train_history.jsonl").open()]
    assert [row["step"] for row in history] == [0, 1, 2, 3, 4, 5]


def test_a_failed_training_client_is_replaced_from_the_last_state(
    project: Path, server: tinker.TinkerServer, tiny_model: Path
) -> None:
    since = len(server.records())
    server.fail("server_failure", on="forward_backward", after=3, first=1)
    distill(project, *overrides(server, tiny_model), skip=["export"])
    assert_each_step_once(server, since)
    assert server.restores()[-1].step in (2, 4)
