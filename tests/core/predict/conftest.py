"""A student of the small project, loaded once, and a place for its answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest

from core.engines import Device
from core.export.bundle import Bundle
from core.predict import Student
from tests.core.pipeline.making import Made


@pytest.fixture(scope="module")
def student(whole: Made, opened: Bundle) -> Iterator[Student]:
    """The student, with its model in memory."""
    with chdir(whole.folder):
        sampler = opened.sampler("adapter", device=Device("cpu", 1))
    with Student(opened, sampler) as loaded:
        yield loaded


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory; the cache is next to it."""
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"
