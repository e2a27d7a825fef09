"""Tables of any format are read row by row, with a place and a reason for what cannot be read, and described
for publishing by place, digest and, if it depends on no config, the number of rows."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from pathlib import Path

import fsspec
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from core.data.sources import Format, TextFormat
from core.data.tables import RawRow, published_table, rows
from core.errors import DataError, UserError

COLUMNS = ("id", "text")
HOW = TextFormat(settings="--")
ODD = ["a\rb", "\ue000", "\ue0001\rx", 'say "no"', "two\r\nlines", "two\nlines", "\x1c.", "é", "NA", ""]


def table(texts: list[str], ends: str = "\r\n") -> str:
    """A CSV with these texts."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator=ends)
    writer.writerow(COLUMNS)
    writer.writerows((f"r{i}", text) for i, text in enumerate(texts))
    return out.getvalue()


def streamed(path: Path | str, kind: Format = "csv") -> list[RawRow]:
    """All rows of a file, one after another."""
    return list(rows(str(path), kind, COLUMNS, HOW))


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_unusual_texts_are_read_unchanged(tmp_path: Path, ends: str) -> None:
    path = tmp_path / "odd.csv"
    path.write_bytes(table(ODD, ends).encode())
    assert [row.values[1] for row in streamed(path)] == ODD


def test_packed_remote_and_typed_tables_are_read(tmp_path: Path) -> None:
    expected = [("r0", "one"), ("r1", "two")]
    text = table(["one", "two"])
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(text.encode()))
    fsspec.filesystem("memory").pipe("/streaming/u.csv", text.encode())
    lines = [json.dumps({"text": text, "id": id_}) for id_, text in expected]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    columns = {"id": ["r0", "r1"], "text": ["one", "two"]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    assert [row.values for row in streamed(tmp_path / "t.csv.gz")] == expected
    assert [row.values for row in streamed("memory://streaming/u.csv")] == expected
    assert [row.values for row in streamed(tmp_path / "t.jsonl", "jsonl")] == expected
    assert [row.values for row in streamed(tmp_path / "t.parquet", "parquet")] == expected


def test_bytes_outside_the_encoding_lose_only_their_row(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"id,text\nr0,fine\nr1,caf\xe9\nr2,fine\n")
    found = streamed(path)
    assert [row.problem is None for row in found] == [True, False, True]
    assert "byte 0xe9 is not utf-8; set --encoding" in str(found[1].problem)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("t.csv", b"\xff\xfei\0d\0", "is UTF-16, not utf-8; set --encoding utf-16"),
        ("t.csv", gzip.compress(b"id,text\n", mtime=0), "is packed by gzip; give it a name that ends in .gz"),
        ("t.csv.gz", gzip.compress(b"id,text\nr0,a\n" * 9, mtime=0)[:-9], "not a whole gzip file"),
        ("t.csv", b"id;text\nr0;a\n", "set --separator ';'"),
        ("t.csv", b"", "is empty"),
        ("t.csv", None, "does not exist"),
    ],
)
def test_invalid_table_is_rejected_with_place_and_remedy(
    tmp_path: Path, name: str, data: bytes | None, message: str
) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message) as refused:
        streamed(tmp_path / name)
    assert str(tmp_path) in str(refused.value)


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
