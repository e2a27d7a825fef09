from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.config import DataConfig
from core.data.labeled_rows import FileReadings, LabelMap, read
from core.data.tables import MissingColumn
from core.errors import DataError

Read = Callable[..., FileReadings]
Write = Callable[..., Path]

ODD = [
    "645",
    "NA",
    "null",
    "a\rb",
    'say "no"',
    "two\nlines",
    "two\r\nlines",
    "a\u2028b",
    "\x1c.",
    "1.0",
    "é",
]


def texts_of(config: DataConfig) -> list[str]:
    return [row.example.text for row in read(config).rows]


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def test_csv_values_stay_text(write: Write, readings: Read) -> None:
    write("text,label\n" + "".join(f"{quoted(text)},1\n" for text in ODD))
    assert [row.example.text for row in readings().rows] == ODD


def test_tsv_values_stay_text_without_quotes(write: Write, readings: Read) -> None:
    write('text\tlabel\n"half a quote\t1\na\rb\t0\n', "data.tsv")
    assert [row.example.text for row in readings("data.tsv", quotes=False).rows] == ['"half a quote', "a\rb"]


def test_json_lines_values_stay_text(write: Write, readings: Read) -> None:
    lines = [json.dumps({"text": text, "label": True}) for text in ODD]
    write(
        "\n".join([*lines, '{"text": 1.50, "label": 0.0}', "", '{"text": 645, "label": false}']), "data.jsonl"
    )
    found = readings("data.jsonl").rows
    assert [row.example.text for row in found] == [*ODD, "1.50", "645"]
    assert [row.example.label for row in found] == [1] * len(ODD) + [0, 0]


def test_parquet_values_stay_text(tmp_path: Path) -> None:
    table = pyarrow.table({"text": ODD, "label": [1.0] * len(ODD), "id": list(range(len(ODD)))})
    pyarrow.parquet.write_table(table, tmp_path / "data.parquet")
    config = DataConfig(path=str(tmp_path / "data.parquet"), id_column="id")
    assert texts_of(config) == ODD
    assert read(config).rows[3].example.id == "3"


def test_a_lone_carriage_return_outside_quotes_belongs_to_the_text(write: Write, readings: Read) -> None:
    write("text,label\na\rb,1\n\ue000\rc,0\n")
    assert [row.example.text for row in readings().rows] == ["a\rb", "\ue000\rc"]


def test_carriage_returns_end_rows_in_files_without_line_feeds(write: Write, readings: Read) -> None:
    write("text,label\ra,1\rb,0\r")
    assert [row.example.text for row in readings().rows] == ["a", "b"]


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(str.strip),
        min_size=1,
    )
)
def test_any_text_survives_csv_and_json_lines(texts: list[str]) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/any/data.csv", ("text,label\n" + "".join(f"{quoted(t)},1\n" for t in texts)).encode())
    memory.pipe_file(
        "/any/data.jsonl", "\n".join(json.dumps({"text": t, "label": 1}) for t in texts).encode()
    )
    assert texts_of(DataConfig(path="memory://any/data.csv")) == texts
    assert texts_of(DataConfig(path="memory://any/data.jsonl")) == texts


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp949"])
def test_every_encoding_is_read_without_its_byte_order_mark(
    write: Write, readings: Read, encoding: str
) -> None:
    write("text,label\n최고,1\n".encode(encoding))
    found = readings(encoding="utf-8" if encoding.startswith("utf-8") else encoding).rows
    assert [row.example.text for row in found] == ["최고"]


def test_gz_and_a_custom_separator_are_read(write: Write, readings: Read) -> None:
    write(gzip.compress(b"label;text\n1;a,b\n"), "data.csv.gz")
    assert readings("data.csv.gz", separator=";").rows[0].example.text == "a,b"


def test_the_id_is_the_column_or_a_hash_of_the_stripped_text(write: Write, readings: Read) -> None:
    write("name,text,label,author\nr1, hello ,1,ann\n")
    by_hash = readings(group_column="author").rows[0].example
    assert by_hash.id == hashlib.sha256(b"hello").hexdigest()[:16]
    assert (by_hash.text, by_hash.group) == (" hello ", "ann")
    assert readings(id_column="name").rows[0].example.id == "r1"


def test_rows_have_the_line_they_start_on(write: Write, readings: Read) -> None:
    write('text,label\n"two\nlines",1\n\nb,0\n"a\rb",1\nc,1\n')
    assert [row.line for row in readings().rows] == [2, 5, 6, 7]


def test_unnamed_columns_are_ignored_and_counted(write: Write, readings: Read) -> None:
    write("label,text,,\n1,a,,\n0,b, more,\n1,c\n0,d,,,,past\n")
    found = readings(max_bad_rows=1)
    assert [row.example.text for row in found.rows] == ["a", "b", "c"]
    assert found.overflow == 1
    assert [bad.line for bad in found.bad] == [5]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b",1", "the text (column 'text') is empty"),
        (b'"  ",1', "the text (column 'text') is empty"),
        (b"a,", "the label (column 'label') is missing"),
        (b"a,maybe", "the label 'maybe' is neither under data.positive nor under data.negative"),
        (b"a", "1 columns where at least 2 are needed"),
        (b"caf\xe9,1", "byte 0xe9 is not utf-8; set data.encoding (latin-1 or cp1252, say) or fix the file"),
        (
            b'"a"b,1',
            "quotes that do not close properly (',' expected after '\"'); "
            "fix them, or set data.quotes: false if this file uses none",
        ),
    ],
)
def test_a_bad_row_is_reported_with_file_line_and_reason(
    write: Write, readings: Read, row: bytes, reason: str
) -> None:
    write(b'text,label\n"first\nrow",1\n' + row + b"\nlast,0\n")
    found = readings(max_bad_rows=1)
    assert [(bad.file, bad.line, bad.reason) for bad in found.bad] == [("data.csv", 4, reason)]
    assert [r.example.text for r in found.rows] == ["first\nrow", "last"]
    with pytest.raises(DataError) as e:
        readings()
    assert str(e.value) == (
        "1 of 3 rows cannot be used and data.max_bad_rows is 0; fix them or raise it:"
        f"\n  data.csv:4: {reason}"
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"text": "a", "label"', "not JSON: Expecting ':' delimiter at column 22"),
        ("[" * 10**5, "not JSON: too deep"),
        ('"text"', "not a JSON object"),
        ('{"label": 1}', "the text (column 'text') is empty"),
        ('{"text": null, "label": 1}', "the text (column 'text') is empty"),
        ('{"text": "a", "label": NaN}', "the label (column 'label') is missing"),
        ('{"text": ["a"], "label": 1}', "'text' is a list, not a text"),
        ('{"text": "\\ud800", "label": 1}', "it holds half a character (U+D800) that no file can hold"),
    ],
)
def test_bad_json_line_is_reported(write: Write, readings: Read, line: str, reason: str) -> None:
    write('{"text": "a", "label": 1}\n' + line + "\n", "data.jsonl")
    assert [(b.line, b.reason) for b in readings("data.jsonl", max_bad_rows=1).bad] == [(2, reason)]


def test_unclosed_quote_cannot_silently_swallow_the_rest(write: Write, readings: Read) -> None:
    write('text,label\na,1\n"b,0\nc,1\n')
    bad = readings(max_bad_rows=1).bad
    assert [(b.line, b.reason[:33]) for b in bad] == [(3, "quotes that do not close properly")]


def test_too_many_bad_rows_stop_the_run_with_examples(write: Write, readings: Read) -> None:
    write("text,label\n" + "a,\n" * 7)
    with pytest.raises(DataError) as e:
        readings(max_bad_rows=6)
    first, *listed = str(e.value).split("\n")
    assert first == "7 of 7 rows cannot be used and data.max_bad_rows is 6; fix them or raise it:"
    assert listed[0] == "  data.csv:2: the label (column 'label') is missing"
    assert listed[5:] == ["  and 2 more"]


@pytest.mark.parametrize(
    ("content", "name", "settings", "sentence"),
    [
        (b"", "data.csv", {}, "{place} is empty"),
        (b"\n\n", "data.csv", {}, "{place} is empty"),
        (b"text,label\n", "data.csv", {}, "{place} has a header but no rows"),
        (b"", "data.jsonl", {}, "{place} is empty"),
        (b"", "data.parquet", {}, "{place} is empty"),
        (
            b"Text,label\na,1\n",
            "data.csv",
            {},
            "{place} has no column 'text'; it has 'Text', 'label'; did you mean 'Text'?",
        ),
        (
            b"text;label\na;1\n",
            "data.csv",
            {},
            "{place} has no column 'text'; it has 'text;label'; "
            "the columns seem to have another separator: set data.separator: ';'",
        ),
        (
            b"text\tlabel\na\t1\n",
            "data.csv",
            {},
            "{place} has no column 'text'; it has 'text\\tlabel'; "
            'the columns seem to have another separator: set data.separator: "\\t"',
        ),
        (b"text,label,text\na,1,b\n", "data.csv", {}, "{place} has 2 columns 'text'; rename all but one"),
        (
            b'{"body": "a", "label": 1}\n',
            "data.jsonl",
            {},
            "{place} has no column 'text'; it has 'body', 'label'",
        ),
        (
            b'[{"text": "a"}]',
            "data.jsonl",
            {},
            "{place} is one JSON array; write one object per line (JSON lines)",
        ),
        (
            b"text,label\n",
            "data.csv",
            {"encoding": "utf8000"},
            "{place}: unknown encoding 'utf8000'; set data.encoding",
        ),
        (
            "text,label\n".encode("utf-16"),
            "data.csv",
            {},
            "{place} is UTF-16, not utf-8; set data.encoding: utf-16",
        ),
        (
            gzip.compress(b"a", mtime=0),
            "data.csv",
            {},
            "{place} is packed by gzip; give it a name that ends in .gz",
        ),
        (
            b"text,label\n",
            "data.txt",
            {},
            "{place}: the ending does not identify the format; set data.format to csv, tsv, jsonl or parquet",
        ),
    ],
)
def test_file_without_a_table_is_rejected(
    write: Write,
    readings: Read,
    content: bytes,
    name: str,
    settings: dict[str, str],
    sentence: str,
    tmp_path: Path,
) -> None:
    write(content, name)
    with pytest.raises(DataError) as e:
        readings(name, **settings)
    assert str(e.value) == sentence.format(place=tmp_path / name)


def test_file_that_is_not_parquet_is_rejected(write: Write, readings: Read) -> None:
    write("text,label", "data.parquet")
    with pytest.raises(DataError, match="is not a Parquet file"):
        readings("data.parquet")


def test_id_with_two_texts_is_an_error_with_both_lines(write: Write, readings: Read) -> None:
    write("id,text,label\nx,a,1\ny,b,0\nx,a,0\ny,b,0\n")
    with pytest.raises(DataError) as e:
        readings(id_column="id")
    assert str(e.value) == (
        "rows with the id (column 'id') of another text or label: 1; "
        "make ids unique, or leave data.id_column out:\n  'x': data.csv:2 and data.csv:4"
    )


@pytest.mark.parametrize("column", ["id_column", "group_column"])
def test_unnamed_column_cannot_be_selected(write: Write, readings: Read, column: str) -> None:
    write("text,label\na,1\nb,0\n")
    with pytest.raises(MissingColumn):
        readings(**{column: ""})


def test_an_empty_id_is_a_bad_row(write: Write, readings: Read) -> None:
    write("id,text,label\n ,a,1\nb,b,0\n")
    assert readings(id_column="id", max_bad_rows=1).bad[0].reason == "the id (column 'id') is empty"


def label(raw: str, **settings: Any) -> int | None:
    return LabelMap(DataConfig(path="a.csv", **settings)).read(raw)


@pytest.mark.parametrize(
    ("expected", "values"),
    [
        (1, ["1", " 1 ", "1.0", "01", "True", "YES", "positive", "1e0"]),
        (0, ["0", "0.0", "-0", "FALSE", "No\n", "negative"]),
        (None, ["", "2", "0.5", "nan", "inf", "maybe", "1_", "1_0"]),
    ],
)
def test_names_of_both_classes_and_equal_numbers_are_labels(expected: int | None, values: list[str]) -> None:
    assert {raw: label(raw) for raw in values} == dict.fromkeys(values, expected)


def test_several_names_map_to_one_class_in_any_case() -> None:
    names = {"positive": ("SPAM", "Straße"), "negative": ("ham",)}
    assert [label(raw, **names) for raw in ("spam", "STRASSE", "Ham", "1")] == [1, 1, 0, None]


def test_true_is_one_unless_it_is_a_name() -> None:
    assert label("True", positive=("1",), negative=("0",)) == 1
    assert label("True", positive=("1",), negative=("true",)) == 0


@pytest.mark.parametrize(
    ("raw", "expected"), [("1", 0), ("3", 1), ("2.9", 0), ("5", 1), ("nan", None), ("yes", 1)]
)
def test_threshold_takes_precedence_over_names_for_numbers(raw: str, expected: int | None) -> None:
    assert label(raw, label_threshold=3) == expected
