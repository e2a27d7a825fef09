"""What is found of a file: its format, encoding and separator; what is no table is named."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from core.errors import DataError
from core.scaffold import detect, read_sample, table_file
from tests.core.scaffold.tables import texts, with_column, write, written


@pytest.mark.parametrize(
    ("name", "data", "settings"),
    [
        ("t.csv", written(texts()).encode(), {}),
        ("t.tsv", written(texts(), "\t").encode(), {}),
        ("t.csv.gz", gzip.compress(written(texts()).encode()), {}),
        ("t.csv", written(texts(), ";").encode(), {"separator": ";"}),
        ("t.txt", written(texts(), "\t").encode(), {"format": "csv", "separator": "\t"}),
        ("t.tsv", written(texts(), "|").encode(), {"format": "csv", "separator": "|"}),
        ("t.csv", written(texts()).replace("late", "spät").encode("cp1252"), {"encoding": "cp1252"}),
        ("t.csv", written(texts()).encode("utf-16"), {"encoding": "utf-16"}),
        ("t.csv", written(texts()).encode("utf-8-sig"), {}),
        ("t.tsv", written(texts(), "\t").replace("My", '"My').encode(), {"quotes": False}),
    ],
)
def test_how_a_file_is_written_is_found(tmp_path: Path, name: str, data: bytes, settings: object) -> None:
    (tmp_path / name).write_bytes(data)
    found = detect(str(tmp_path / name))
    assert found.settings == settings
    assert len(read_sample(found).values(found.columns[0])) == 60


def test_json_lines_and_parquet_are_known_by_their_content(tmp_path: Path) -> None:
    head, *rows = texts()
    objects = [{**dict(zip(head, row, strict=True)), "meta": {"a": 1}} for row in rows]
    (tmp_path / "lines").write_text("".join(json.dumps(each) + "\n" for each in objects))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(objects), tmp_path / "columns.dat")
    for name, kind in (("lines", "jsonl"), ("columns.dat", "parquet")):
        found = detect(str(tmp_path / name))
        assert (found.kind, found.columns, found.ignored) == (kind, ("text", "label"), ("meta",))
        assert found.settings == {"format": kind}
        assert read_sample(found).values("label")[:3] == ["1", "0", "0"]


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("t.csv", b"", "is empty"),
        ("t.csv", b" \n\n", "is empty"),
        ("t.csv", b"text,label\n", "has a header but no rows"),
        ("t.csv", b"text\nOne two three\n", "has one column, 'text'; a table needs a text and a label"),
        ("t.csv", bytes(range(256)) * 20, "is a binary file"),
        ("t.csv", bytes(b % 24 + 1 for b in range(5000)), "is a binary file"),
        ("t.csv", b"\x1f\x8b" + bytes(100), "ends in .gz"),
        ("t.xlsx", b"PK\x03\x04", "is a spreadsheet"),
        ("t.json", b'[{"text": "a", "label": 1}]', "is one JSON array"),
        ("t.parquet", b"PAR1 and nothing else", "is not a whole Parquet file"),
        (
            "t.txt",
            b"Dear all, hello,\nthis is prose, not\na table, and so on, and on\n" * 20,
            "is not a table",
        ),
    ],
)
def test_what_is_not_a_table_is_named(tmp_path: Path, name: str, data: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=sentence):
        read_sample(detect(str(tmp_path / name)))


def test_only_the_first_rows_of_a_large_table_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_file, "SAMPLE_ROWS", 50)
    path = write(tmp_path / "t.csv", texts(40_000))
    with path.open("ab") as f:
        f.write(b'a row, with "stray quotes", and \xff\n')
    sample = read_sample(detect(str(path), encoding="utf-8"))
    assert (len(sample.rows), sample.whole) == (50, False)


def test_long_texts_of_many_lines_are_whole_rows(tmp_path: Path) -> None:
    head, *rows = texts(40)
    long = "\n".join("a line, with commas, of a long letter" for _ in range(900))
    path = write(tmp_path / "t.csv", [head, *([f"{a}\n{long}", b] for a, b in rows)])
    assert path.stat().st_size > 1_200_000
    found = detect(str(path))
    assert (found.settings, len(read_sample(found).rows)) == ({}, 40)


def test_columns_that_cannot_be_told_apart_are_ignored(tmp_path: Path) -> None:
    rows = with_column(with_column(with_column(texts(), "", ["x"]), "note", ["a"]), "note", ["b"])
    found = detect(str(write(tmp_path / "t.csv", rows)))
    assert found.columns == ("text", "label")
