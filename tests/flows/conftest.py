"""What the flows run on: the small project, as the working directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.core.conftest import bundle, made, whole  # noqa: F401  # fixtures
from tests.small_project import write_project


@pytest.fixture
def project(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with everything a config names; returns the config's path."""
    monkeypatch.chdir(tmp_path)
    return write_project(tmp_path, tiny_model)
