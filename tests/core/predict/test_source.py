"""Texts from any format, with what cannot be answered named and passed on."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow
import pyarrow.parquet
import pytest

from core.data.hashing import text_id
from core.errors import DataError
from core.predict.source import InputRow, Source


def rows(path: Path, **settings: object) -> list[InputRow]:
    return list(Source(str(path), **settings).rows())  # type: ignore[arg-type]


def test_every_format_gives_the_same_rows(tmp_path: Path) -> None:
    texts = ["one, two", "NA", "645"]
    expected = [InputRow(text_id(t), t) for t in texts]
    (tmp_path / "t.csv").write_text("text\n" + "".join(f'"{t}"\n' for t in texts))
    (tmp_path / "t.tsv").write_text("text\n" + "".join(f"{t}\n" for t in texts))
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    (tmp_path / "t.txt").write_text("\ufeff" + "\r\n".join(texts))
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "t.parquet")
    for name in ("t.csv", "t.tsv", "t.jsonl", "t.txt", "t.parquet"):
        assert rows(tmp_path / name) == expected, name


def test_standard_input_is_a_text_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"one\n\ntwo")))
    found = list(Source("-").rows())
    assert [row.text for row in found] == ["one", "", "two"]
    assert found[1].problem == "standard input:2: the text is empty"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"id,text\nr0,\n", "t.csv:2: the text is empty"),
        (b"id,text\n,a\n", "t.csv:2: the id (column 'id') is empty"),
        (b"id,text\nr0\n", "t.csv:2: 1 columns where at least 2 are needed"),
        (b"id,text\nr0,caf\xe9\n", "t.csv:2: byte 0xe9 is not utf-8; set --encoding"),
        (b'id,text\nr0,"a"b\n', "t.csv:2: quotes that do not close properly"),
    ],
)
def test_a_bad_row_has_its_place_and_its_reason(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "t.csv").write_bytes(data)
    (row,) = rows(tmp_path / "t.csv", id_column="id")
    assert row.problem is not None
    assert said in row.problem


def test_a_missing_column_and_an_unknown_ending_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("body\na\n")
    (tmp_path / "t.xls").write_text("")
    with pytest.raises(DataError, match="has no column 'text'; it has 'body'"):
        rows(tmp_path / "t.csv")
    with pytest.raises(DataError, match="set --format to csv"):
        rows(tmp_path / "t.xls")
