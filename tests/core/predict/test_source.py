"""Texts are read from any format, one row for each row; rows that cannot be answered have a reason."""

from __future__ import annotations

import gzip
import io
import json
import logging
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given

from core.errors import DataError
from core.export.bundle import FILE
from core.predict import PredictOptions
from core.predict.table_io import InputRow, TextSource, text_columns
from core.records import text_id
from tests.row_files import RowFile, row_files


def rows(path: Path, **settings: object) -> list[InputRow]:
    return list(TextSource(str(path), **settings).rows())  # type: ignore[arg-type]


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


def test_standard_input_has_one_text_per_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"one\n\ntwo")))
    found = list(TextSource("-").rows())
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
def test_a_bad_row_has_its_line_and_reason(tmp_path: Path, data: bytes, said: str) -> None:
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


@given(row_files(["csv", "tsv", "jsonl", "parquet", "lines"]))
def test_every_input_row_gives_one_row_in_order(file: RowFile) -> None:
    id_column = None if file.kind == "lines" else "id"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t"
        path.write_bytes(file.data)
        found = rows(path, format=file.kind, encoding=file.encoding, id_column=id_column)
    assert len(found) == len(file.rows)
    for read, written in zip(found, file.rows, strict=True):
        if written.sound:
            assert (read.text, read.problem) == (written.text, None)
            assert read.id == (text_id(written.text) if file.kind == "lines" else written.id)
        elif read.id is not None and file.kind != "lines":
            assert read.id == written.id


def test_extra_fields_are_an_error_and_do_not_shorten_the_text(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(
        'id,text\n1,"quoted, fine"\n2,You have won prize number 4, call now to claim\n'
        '3, "a space, before the quote"\n4,plain\n'
    )
    found = rows(tmp_path / "in.csv")
    assert [row.text for row in found] == ["quoted, fine", "", "", "plain"]
    assert [row.problem is None for row in found] == [True, False, False, True]
    assert "in.csv:3: 3 fields where the header has 2" in str(found[1].problem)
    assert "in.csv:4: 3 fields where the header has 2; remove the space" in str(found[2].problem)


def test_a_stray_quote_affects_one_row(tmp_path: Path) -> None:
    texts = [f"message number {i}" for i in range(40)]
    texts[9], texts[30] = f'"{texts[9]}', f'{texts[30]}"'
    (tmp_path / "t.csv").write_text("id,text\n" + "".join(f"r{i},{text}\n" for i, text in enumerate(texts)))
    found = rows(tmp_path / "t.csv", id_column="id")
    assert [row.text for row in found] == ["" if i == 9 else text for i, text in enumerate(texts)]
    assert [i for i, row in enumerate(found) if row.problem] == [9]


def test_content_of_unnamed_columns_is_marked(tmp_path: Path) -> None:
    """Such columns are ignored and counted, as in training."""
    (tmp_path / "t.csv").write_text("label,text,,\n1,a,,\n0,b, more,\n")
    assert [(row.text, row.overflow) for row in rows(tmp_path / "t.csv")] == [("a", False), ("b", True)]


UTF_16 = b"\xff\xfe" + "hello there\nfree entry now\nsee you\n".encode("utf-16-le")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
@pytest.mark.parametrize("where", ["t.txt", "t.txt.gz", "-"])
def test_lines_in_utf_16_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, where: str
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(UTF_16)))
    monkeypatch.chdir(tmp_path)
    Path("t.txt").write_bytes(UTF_16)
    Path("t.txt.gz").write_bytes(gzip.compress(UTF_16))
    found = list(TextSource(where, encoding=encoding).rows())
    assert [(row.text, row.problem) for row in found] == [
        ("hello there", None),
        ("free entry now", None),
        ("see you", None),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16-be"])
def test_the_error_for_a_wrong_encoding_names_one_that_works(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "t.txt").write_bytes(UTF_16)
    with pytest.raises(DataError, match=r"t\.txt is UTF-16, not .*; set --encoding utf-16$"):
        rows(tmp_path / "t.txt", encoding=encoding)


def test_lines_that_are_not_text_are_errors(tmp_path: Path) -> None:
    """Without a byte order mark, with NULs, and with bytes of another encoding."""
    (tmp_path / "wide.txt").write_bytes("free entry\n".encode("utf-16-le"))
    assert all("set --encoding utf-16-le" in str(row.problem) for row in rows(tmp_path / "wide.txt"))
    assert [row.text for row in rows(tmp_path / "wide.txt", encoding="utf-16-le")] == ["free entry"]
    (tmp_path / "t.txt").write_bytes(b"fine\ncaf\xe9\nb\0\0\nfine\r\n")
    found = rows(tmp_path / "t.txt")
    assert [row.problem is None for row in found] == [True, False, False, True]
    assert "t.txt:2: byte 0xe9 is not utf-8" in str(found[1].problem)
    assert "t.txt:3: the text has NUL characters" in str(found[2].problem)


def test_a_compressed_standard_input_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(gzip.compress(b"a\n"))))
    with pytest.raises(DataError, match="standard input is packed by gzip; unpack it first"):
        list(TextSource("-").rows())


def source(url: str, kind: str, asked: str | None = None) -> TextSource:
    """A source for a student whose training texts are in the column v2."""
    first, second = text_columns(asked, "v2")
    return TextSource(url, kind, first, second_choice=second)  # type: ignore[arg-type]


TABLES = {
    "csv": b"id,text,label\nr0,hello,1\n",
    "tsv": b"id\ttext\nr0\thello\n",
    "jsonl": b'{"id": "r0", "text": "hello"}\n',
}


@pytest.mark.parametrize("kind", [*TABLES, "parquet"])
def test_the_column_text_is_the_second_choice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """The table lacks the column of the training data."""
    path = tmp_path / f"t.{kind}"
    if kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.table({"id": ["r0"], "text": ["hello"]}), path)
    else:
        path.write_bytes(TABLES[kind])
    with caplog.at_level(logging.WARNING):
        found = list(source(str(path), "auto").rows())
    assert [row.text for row in found] == ["hello"]
    (said,) = caplog.messages
    assert "'v2'" in said
    assert "'text'" in said


def test_the_first_choice_is_the_column_of_the_bundles_training_data(bundle: Path, tmp_path: Path) -> None:
    """TER4."""
    contents = json.loads((bundle / FILE).read_text())
    contents["columns"]["text"] = "v2"
    (tmp_path / FILE).write_text(json.dumps(contents))
    (tmp_path / "t.csv").write_text("id,text\nr0,hello\n")
    options = PredictOptions(input=str(tmp_path / "t.csv"), id_column="id", encoding="latin-1", quotes=False)
    found = TextSource.of(options, tmp_path)
    assert (found.text_column, found.second_choice, found.id_column) == ("v2", "text", "id")
    assert (found.encoding, found.separator, found.quotes) == ("latin-1", None, False)
    assert [(row.id, row.text) for row in found.rows()] == [("r0", "hello")]


@pytest.mark.parametrize("kind", TABLES)
def test_the_column_text_is_the_second_choice_on_standard_input(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(TABLES[kind])))
    found = list(source("-", kind).rows())
    assert [row.text for row in found] == ["hello"]
    assert "'v2'" in caplog.messages[0]


def test_the_requested_or_trained_column_comes_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("text,v2\nno,yes\n")
    assert [row.text for row in source(str(path), "auto").rows()] == ["yes"]
    path.write_text("text,body\nno,yes\n")
    assert [row.text for row in source(str(path), "auto", "body").rows()] == ["yes"]
    with pytest.raises(DataError, match=r"no column 'bdy'; it has 'text', 'body'; did you mean 'body'\?"):
        list(source(str(path), "auto", "bdy").rows())
    assert caplog.messages == []


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_without_either_column_the_option_is_suggested(tmp_path: Path, kind: str) -> None:
    """The error lists the columns of the table."""
    path = tmp_path / f"t.{kind}"
    path.write_bytes({"csv": b"id,V2\nr0,a\n", "jsonl": b'{"id": "r0", "V2": "a"}\n'}.get(kind, b""))
    if kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.table({"id": ["r0"], "V2": ["a"]}), path)
    with pytest.raises(DataError, match=r"no column 'v2'; it has 'id', 'V2'.*mean 'V2'\?; set --text-column"):
        list(source(str(path), "auto").rows())


def test_a_column_that_occurs_twice_is_named(tmp_path: Path) -> None:
    table = pyarrow.Table.from_arrays([pyarrow.array(["a"])] * 2, names=["text", "text"])
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_text("text,text\na,b\n")
    for name in ("t.parquet", "t.csv"):
        with pytest.raises(DataError, match=f"{name} has 2 columns 'text'; rename all but one"):
            rows(tmp_path / name)
