"""What the flows run on: the small project, as the working directory."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path

import pytest

from tests.core.conftest import bundle, made, whole  # noqa: F401  # fixtures
from tests.flows.running import copied, run
from tests.small_project import write_project


@pytest.fixture
def project(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with everything a config names; returns the config's path."""
    monkeypatch.chdir(tmp_path)
    return write_project(tmp_path, tiny_model)


@pytest.fixture(scope="session")
def finished_once(tiny_model: Path, prefect_server: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small project after its run, made once and left alone; returns the config's path."""
    config = write_project(tmp_path_factory.mktemp("finished"), tiny_model)
    with chdir(config.parent):
        run(config)
    return config


@pytest.fixture
def finished(finished_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, as the working directory; returns the config's path."""
    monkeypatch.chdir(tmp_path)
    return copied(finished_once, tmp_path)
