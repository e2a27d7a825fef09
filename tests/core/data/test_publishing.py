"""Published tables: place, digest, and the number of rows if it depends on no config."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pandas as pd
import pytest

from core.data.tables import published_table
from core.errors import DataError, UserError


def test_local_table_is_published_with_its_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("My texts.2026.csv").write_text("text,label\na,1\n")
    found = published_table("My texts.2026.csv")
    assert (found.name, found.path, found.bytes) == ("My-texts", str(tmp_path / "My texts.2026.csv"), 15)
    assert found.sha256 == hashlib.sha256(b"text,label\na,1\n").hexdigest()


def test_rows_are_counted_if_no_config_is_needed(tmp_path: Path) -> None:
    lines = b'{"text": "a"}\n\n{"text": "b"}\n'
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines))
    pd.DataFrame({"text": ["a", "b", "c"]}).to_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("text\na\n")
    endings = ("jsonl.gz", "parquet", "csv")
    assert [published_table(str(tmp_path / f"a.{e}")).rows for e in endings] == [2, 3, None]


def test_unreadable_table_is_not_published(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"")
    (tmp_path / "a.parquet").write_bytes(b"PAR")
    (tmp_path / "a.jsonl.gz").write_bytes(b"{}")
    for name in ("a.csv", "a.parquet", "a.jsonl.gz", "b.csv", "."):
        with pytest.raises(DataError):
            published_table(str(tmp_path / name))
    with pytest.raises(UserError, match="--name"):
        published_table(str(tmp_path / "a.csv"), "../x")
