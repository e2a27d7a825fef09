"""The store's tests run on every kind of root alike."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from core.store.objects import Store


@pytest.fixture(params=["disk", "memory", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty root of each kind."""
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "cache"))
    if request.param == "s3":
        url: str = request.getfixturevalue("s3_root")
        return url
    return str(tmp_path / "root") if request.param == "disk" else f"memory://tests/{uuid.uuid4().hex}"


@pytest.fixture
def store(root: str) -> Store:
    """The store at it."""
    return Store.open(root)
