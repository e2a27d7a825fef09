"""Tables that tests write themselves, and a shorthand for reading them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from core.config import DataConfig
from core.data.labeled_rows import FileReadings, TableRow, read
from core.records import Example, SplitName

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a file into the working directory of the test."""
    monkeypatch.chdir(tmp_path)

    def _write(content: str | bytes, name: str = "data.csv") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return _write


@pytest.fixture
def readings() -> Callable[..., FileReadings]:
    """Read data.csv with these settings."""

    def _read(path: str = "data.csv", **settings: Any) -> FileReadings:
        return read(DataConfig(path=path, **settings))

    return _read


@pytest.fixture
def rows() -> Callable[..., list[TableRow]]:
    """Rows from (id, text, label[, group]), all of one split."""

    def _rows(values: Sequence[tuple[Any, ...]], split: SplitName | None = None) -> list[TableRow]:
        return [TableRow(Example(*value), "data.csv", i, split) for i, value in enumerate(values, start=2)]

    return _rows
