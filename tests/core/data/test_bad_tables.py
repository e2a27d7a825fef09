"""Rows and columns that do not fit, in every format, are reported and never cut to fit."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given

from core.config import DataConfig
from core.data.labeled_rows import FileReadings, read
from core.errors import DataError
from tests.row_files import RowFile, row_files

Read = Callable[..., FileReadings]
Write = Callable[..., Path]


@pytest.mark.parametrize(
    ("name", "header", "row"),
    [
        ("data.csv", "label,text", "1,You have won, call now"),
        ("data.csv", "label,text", '1, "a space, before the quote"'),
        ("data.csv", "text,label", "You have won, call now,1"),
        ("data.csv", "label,text", "1,ends in a comma,"),
        ("data.csv", "label,text", "1,a,,,"),
        ("data.csv", "label,text,", "1,You have won,call,now"),
        ("data.tsv", "label\ttext", "1\ttabs\tin a text"),
        ("data.tsv", "label\ttext", '1\t "a\ttab"'),
    ],
)
def test_a_row_with_more_fields_than_the_header_is_a_bad_row(
    write: Write, readings: Read, name: str, header: str, row: str
) -> None:
    separator = "\t" if name.endswith("tsv") else ","
    fine = separator.join(("1", "fine") if header.startswith("label") else ("fine", "1"))
    write(f"{header}\n{fine}\n{row}\n{fine}\n", name)
    found = readings(name, max_bad_rows=1)
    assert [bad.line for bad in found.bad] == [3]
    assert "fields where the header has" in found.bad[0].reason
    assert [r.example.text for r in found.rows] == ["fine", "fine"]


def test_extra_fields_are_bad_rows_without_quotes_too(write: Write, readings: Read) -> None:
    write('label,text\n1,"a, b"\n0,"c"\n')
    found = readings(quotes=False, max_bad_rows=1)
    assert ([bad.line for bad in found.bad], [r.example.text for r in found.rows]) == ([2], ['"c"'])


@pytest.mark.parametrize(
    "content",
    [
        "text,label\na,1,\nb,0,,\n",  # nothing is lost with separators after the last column
        "text,label,,\na,1,,\nb,0\n",
        '"text","label"\n"a","1"\n"b","0"\n',
        "\n\ntext,label\n\na,1\n\n\nb,0\n\n",
        " text , label \na,1\nb,0\n",
        "sep=;\r\ntext;label\r\na;1\r\nb;0\r\n",
        '"sep=;"\ntext;label\na;1\nb;0\n',
        "text,label,note\na,1\nb,0,x\n",
        ",text,label\n0,a,1\n1,b,0\n",
        "text,label\na,1\nb,0",
    ],
)
def test_harmless_irregularities_are_read(write: Write, readings: Read, content: str) -> None:
    """Trailing separators, blank lines, a quoted header, Excel's first line, an index of pandas."""
    write(content)
    found = readings()
    assert [(row.example.text, row.example.label) for row in found.rows] == [("a", 1), ("b", 0)]
    assert (found.seen, found.overflow) == (2, 0)


def test_line_numbers_include_the_separator_line(write: Write, readings: Read) -> None:
    write("sep=;\ntext;label\na;1\n;0\n")
    assert [bad.line for bad in readings(max_bad_rows=1).bad] == [4]


def test_max_bad_rows_counts_rows(write: Write, readings: Read) -> None:
    write("text,label\n" + "".join(f'"a {i},1\n' if i % 2 else f"b {i},0,\n" for i in range(100)))
    with pytest.raises(DataError, match=r"^50 of 100 rows cannot be used and data\.max_bad_rows is 49;"):
        readings(max_bad_rows=49)
    assert len(readings(max_bad_rows=50).rows) == 50


def parquet(path: Path, names: list[str], columns: list[Any]) -> DataConfig:
    arrays = [column if isinstance(column, pyarrow.Array) else pyarrow.array(column) for column in columns]
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(arrays, names=names), path, compression="none")
    return DataConfig(path=str(path), max_bad_rows=1)


@pytest.mark.parametrize("name", ["text", "label"])
def test_duplicate_parquet_column_is_an_error(tmp_path: Path, name: str) -> None:
    """A regression: it raised a KeyError."""
    config = parquet(tmp_path / "t.parquet", ["text", "label", name], [["a"], ["1"], ["b"]])
    with pytest.raises(DataError, match=f"t.parquet has 2 columns '{name}'; rename all but one$"):
        read(config)


def test_unused_columns_may_occur_twice(tmp_path: Path) -> None:
    names = ["x", "text", "x", "label", "x"]
    found = read(parquet(tmp_path / "t.parquet", names, [[1], ["a"], ["z"], ["1"], [None]]))
    assert [row.example.text for row in found.rows] == ["a"]


@pytest.mark.parametrize("header", ["text,label,text", "text,label, text ", '"text",label,text'])
def test_duplicate_csv_column_is_an_error(write: Write, readings: Read, header: str) -> None:
    """Names that differ by spaces are the same."""
    write(f"{header}\na,1,b\n")
    with pytest.raises(DataError, match=r"has 2 columns 'text'; rename all but one$"):
        readings()


def test_duplicate_json_key_is_a_bad_row(write: Write, readings: Read) -> None:
    """json.loads silently takes the last value."""
    nested = '{"text": "say \\"text\\":", "label": 1, "more": {"text": "b", "label": 0}}'
    write(nested + '\n{"text": "a", "text": "b", "label": 1}\n', "data.jsonl")
    found = readings("data.jsonl", max_bad_rows=1)
    assert [row.example.text for row in found.rows] == ['say "text":']
    assert [(bad.line, bad.reason) for bad in found.bad] == [(2, "it has the key 'text' more than once")]


@pytest.mark.parametrize(
    ("lines", "bad"),
    [
        (['{"text": "b", "la'], [2]),
        (['{"label": 1}', '{"text": "c", "label": 1, "more": 2}'], [2]),
        (['{"text": "b", "label": 1}{"text": "c", "label": 0}'], [2]),
        (["", "null", " "], [3]),
    ],
)
def test_ragged_and_truncated_json_lines_are_bad_rows(
    write: Write, readings: Read, lines: list[str], bad: list[int]
) -> None:
    write("\n".join(['{"text": "a", "label": 1}', *lines]), "data.jsonl")
    found = readings("data.jsonl", max_bad_rows=9)
    assert [row.line for row in found.bad] == bad
    assert len(found.rows) + len(bad) == found.seen


@pytest.mark.parametrize("encoded", [False, True])
def test_parquet_bytes_that_are_not_utf_8_are_a_bad_row(tmp_path: Path, encoded: bool) -> None:
    """A regression: it raised a UnicodeDecodeError."""
    raw = pyarrow.array([b"fine", b"caf\xe9", None, b"also fine"], pyarrow.binary())
    buffers = raw.buffers()
    texts = pyarrow.StringArray.from_buffers(len(raw), buffers[1], buffers[2], buffers[0], raw.null_count)
    column = texts.dictionary_encode() if encoded else texts
    config = parquet(tmp_path / "t.parquet", ["text", "label"], [column, ["1"] * 4])
    found = read(config.model_copy(update={"max_bad_rows": 2}))
    assert [row.example.text for row in found.rows] == ["fine", "also fine"]
    assert [bad.line for bad in found.bad] == [2, 3]


def test_a_damaged_parquet_file_is_an_error(tmp_path: Path) -> None:
    """Truncated files, and files with unreadable pages."""
    path = tmp_path / "t.parquet"
    columns = pyarrow.table({"text": [f"text {i}" for i in range(999)], "label": ["1"] * 999})
    pyarrow.parquet.write_table(columns, path)
    data = path.read_bytes()
    for damaged in (data[:-20], b"PAR1" + b"\xff" * 900 + data[904:]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"t\.parquet is (not a Parquet file|damaged after row 0)"):
            read(DataConfig(path=str(path)))


def test_a_truncated_gzip_file_is_an_error(write: Write, readings: Read) -> None:
    """An unknown number of rows is missing."""
    packed = gzip.compress("".join(["text,label\n", *(f"text {i},1\n" for i in range(999))]).encode())
    write(packed[:-30], "data.csv.gz")
    with pytest.raises(DataError, match=r"data\.csv\.gz ends in \.gz but is not a whole gzip file"):
        readings("data.csv.gz", max_bad_rows=999)


def readings_of(file: RowFile) -> FileReadings:
    """What training reads from a file."""
    fsspec.filesystem("memory").pipe_file(f"/conservation/data.{file.kind}", file.data)
    path = f"memory://conservation/data.{file.kind}"
    return read(DataConfig(path=path, id_column="id", encoding=file.encoding, max_bad_rows=10**6))


@given(row_files(["csv", "tsv", "jsonl", "parquet"]))
def test_every_row_is_used_or_reported(file: RowFile) -> None:
    found = readings_of(file)
    assert len(found.rows) + len(found.bad) == found.seen == len(file.rows)
    used = {row.example.id: (row.example.text, row.example.label) for row in found.rows}
    for row in file.rows:
        if row.sound:
            assert used[row.id] == (row.text, int(row.label))
    assert len({(bad.file, bad.line) for bad in found.bad}) == len(found.bad)
    assert all(bad.reason for bad in found.bad)
