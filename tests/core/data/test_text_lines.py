"""Bytes are decoded before lines are split, and binary content is rejected."""

from __future__ import annotations

import codecs
import gzip
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from core.data.labeled_rows import FileReadings
from core.data.sources import TextFormat, TextLines
from core.errors import DataError

Read = Callable[..., FileReadings]
Write = Callable[..., Path]

WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
# U+0A0D and U+0D0A are letters whose bytes are those of line ends.
TEXTS = ["hello there", "\u0a0d\u0d0a ਊ", "최고 😀", "a\u2028b\x0b\x0c\x1c\x85c"]


def lines(data: bytes, encoding: str = "utf-8") -> list[str]:
    return list(TextLines(io.BytesIO(data), "t.txt", TextFormat(encoding, settings="--")).stripped())


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32", *WIDE])
def test_lines_are_split_after_decoding(encoding: str, end: str) -> None:
    """A regression: UTF-16 was split at byte 0x0A."""
    assert lines(end.join([*TEXTS, ""]).encode(encoding), encoding) == TEXTS
    assert lines(end.join(TEXTS).encode(encoding), encoding) == TEXTS


class Pipe(io.BytesIO):
    """A file of which each read returns a few bytes."""

    def __init__(self, data: bytes, size: int) -> None:
        super().__init__(data)
        self._size = size

    def read1(self, size: int | None = -1) -> bytes:
        return self.read(self._size)


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_blocks_may_end_inside_characters_and_line_ends(size: int, encoding: str) -> None:
    """Within a character, between a carriage return and a line feed, and in a byte order mark."""
    data = codecs.BOM_UTF16_LE if encoding == "utf-16-le" else codecs.BOM_UTF8
    data += "one\r\ntw\ro 최고\r\n\r\n😀\r".encode(encoding)
    found = TextLines(Pipe(data, size), "t.txt", TextFormat(encoding)).stripped()
    assert list(found) == ["one", "tw\ro 최고", "", "😀"]


@pytest.mark.parametrize(
    "given", ["utf-8", "latin-1", "cp1252", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
@pytest.mark.parametrize("written", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_the_encoding_that_a_message_suggests_works(written: str, given: str) -> None:
    """With a byte order mark."""
    data = "\ufeffhello there\nfree entry\n".encode(written)
    try:
        found = lines(data, given)
    except DataError as e:
        found = lines(data, str(e).rpartition(" set --encoding ")[2])
    assert found == ["hello there", "free entry"]


@pytest.mark.parametrize("written", WIDE)
def test_wide_encodings_without_a_byte_order_mark_are_recognized(written: str) -> None:
    data = "hello there\nfree entry\n".encode(written)
    assert TextLines(io.BytesIO(data), "t.txt", TextFormat()).likely == written
    with pytest.raises(DataError, match=r"not utf-16: it has no NUL bytes; set --encoding utf-8"):
        lines(b"hello there\nfree entry\n", "utf-16")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "cp949", "shift_jis"])
def test_undecodable_bytes_lose_only_their_line(encoding: str) -> None:
    """This includes a character cut off at the end of the file."""
    bad = b"\x00\xdc\x00\xdc" if encoding == "utf-16-le" else b"\xff\xff"
    fine = ["fine\n".encode(encoding), "fine\n".encode(encoding)]
    found = lines(bad.join(fine) + "cut".encode(encoding) + bad[:1], encoding)
    assert [found[0], len(found)] == ["fine", 3]
    assert any("\udc00" <= c <= "\udcff" for c in found[1])


@pytest.mark.parametrize("encoding", ["utf-16", *WIDE])
@pytest.mark.parametrize("name", ["data.csv", "data.tsv", "data.jsonl", "data.csv.gz"])
def test_tables_are_read_in_wide_encodings(write: Write, readings: Read, encoding: str, name: str) -> None:
    written = {
        "csv": 'text,label\r\n"two, and\n\u0a0d",1\r\nb,0\r\n',
        "tsv": 'text\tlabel\r\n"two, and\n\u0a0d"\t1\r\nb\t0\r\n',
        "jsonl": '{"text": "two, and\\n\u0a0d", "label": 1}\r\n{"text": "b", "label": 0}\r\n',
    }[name.split(".")[1]].encode(encoding)
    write(gzip.compress(written) if name.endswith(".gz") else written, name)
    found = readings(name, encoding=encoding).rows
    assert [(row.example.text, row.example.label) for row in found] == [("two, and\n\u0a0d", 1), ("b", 0)]


@pytest.mark.parametrize(
    ("name", "data", "line"),
    [
        ("data.csv", b"text,label\na,1\nb\0\0\0,1\nc,0\n", 3),
        ("data.csv", b"text,label\na,1\nb,1\nc,0\n\0\0\0\0", 5),
        ("data.tsv", b"text\tlabel\na\t1\n\0b\t1\nc\t0\n", 3),
        ("data.jsonl", b'{"text": "a", "label": 1}\n{"text": "b\\u0000", "label": 1}\n', 2),
        ("data.jsonl", b'{"text": "a", "label": 1}\n\0\0\0\0\n', 2),
        ("data.csv", "text,label\na,1\n\ufffd\ufffd \ufffd,0\n".encode(), 3),
        ("data.csv", b"text,label\na,1\ncaf\xe9,0\n", 3),
        ("data.jsonl", b'{"text": "a", "label": 1}\n{"text": "caf\xe9", "label": 1}\n', 2),
    ],
)
def test_row_that_is_not_text_is_a_bad_row(
    write: Write, readings: Read, name: str, data: bytes, line: int
) -> None:
    """NULs, among them padding, and undecodable bytes."""
    write(data, name)
    found = readings(name, max_bad_rows=1)
    assert [bad.line for bad in found.bad] == [line]
    assert len(found.rows) == found.seen - 1 > 0


def test_utf_16_without_a_byte_order_mark_is_rejected_with_its_encoding(write: Write, readings: Read) -> None:
    """The encoding in the message works."""
    write("text,label\nhello there,1\n".encode("utf-16-le"))
    with pytest.raises(DataError, match=r"the header has NUL.*set data\.encoding: utf-16-le$"):
        readings()
    assert readings(encoding="utf-16-le").rows[0].example.text == "hello there"


def test_first_line_end_decides_what_ends_lines(write: Write, readings: Read) -> None:
    """Lone carriage returns among line feeds."""
    for content in ("text,label\ra,1\rb,0\nc,1\r\nd,0", "text,label\na,1\rb,0\r\nc,1\nd,0\r"):
        write(content)
        assert [row.example.text for row in readings().rows] == ["a", "b", "c", "d"]


def test_a_byte_order_mark_left_by_joining_files_is_skipped(write: Write, readings: Read) -> None:
    """The header of the second file is a bad row."""
    write('text,label\na,1\n\ufefftext,label\n\ufeff"b, c",0\n')
    found = readings(max_bad_rows=1)
    assert [row.example.text for row in found.rows] == ["a", "b, c"]
    assert [(bad.line, bad.reason) for bad in found.bad] == [(3, "it repeats the header")]
    write('{"text": "a", "label": 1}\n\ufeff{"text": "b", "label": 0}\n', "data.jsonl")
    assert [row.example.text for row in readings("data.jsonl").rows] == ["a", "b"]


@pytest.mark.parametrize("encoding", ["hex", "rot13", "no-such"])
def test_unknown_text_encoding_is_rejected(encoding: str) -> None:
    with pytest.raises(DataError, match="unknown encoding"):
        lines(b"a\n", encoding)
