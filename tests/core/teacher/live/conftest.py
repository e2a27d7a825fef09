"""One test endpoint per module, and live teachers under one root."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.completions.journal import Journal
from core.config import TeacherConfig
from core.store import Store
from core.teacher.live import LiveTeacher
from core.teacher.parsing import LabelNames
from tests.core.teacher.live.textbook import FRAME, PROMPTS, REPO, RULES, TEXTS
from tests.servers import teacher as endpoint
from tests.servers.teacher import TeacherServer
from tests.servers.teacher_answers import write_texts


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries wait a tenth as long; how long they wait is tested in virtual time (test_flow_control)."""
    monkeypatch.setattr("core.completions.flow_control._BASE_S", 0.1)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeacherServer]:
    """One server for the module; it is reset for each test."""
    texts = write_texts(tmp_path_factory.mktemp("texts") / "texts.jsonl", TEXTS, None)
    with endpoint.serve(texts, frames=[FRAME]) as server:
        yield server


@pytest.fixture
def server(running: TeacherServer, monkeypatch: pytest.MonkeyPatch) -> TeacherServer:
    monkeypatch.setenv("TEST_TEACHER_KEY", "key")
    running.recover()
    running.reset_counts()
    return running


@pytest.fixture
def live(server: TeacherServer, tmp_path: Path) -> Callable[..., LiveTeacher]:
    """Opens teachers on one root."""

    def opened(run: str = "r", **config: object) -> LiveTeacher:
        values = {
            "kind": "openai",
            "base_url": server.base_url,
            "api_key_env": "TEST_TEACHER_KEY",
            "model": "gpt-4o-mini",
            "attempts": 1,
            "max_tokens": 200,
            "prices": str(REPO / "configs/prices.yaml"),
            "limits": {"concurrency": 8, "tries": 4},
        }
        teacher = TeacherConfig.model_validate({**values, **config})
        store = Store.open(str(tmp_path / "root"))
        names = LabelNames()
        return LiveTeacher(teacher, PROMPTS, RULES, names, lambda: Journal.open(store, run))

    return opened
