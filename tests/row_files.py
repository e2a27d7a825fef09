"""Tables in every format with some rows corrupted, for tests that no row gets lost.

`Written` is a row as it was meant, with what was done to it. What is expected of each:

- A row that is not corrupted (`HARMLESS` does not count as such) is used with exactly its text and label.
- A corrupted row is reported, or used where the corruption leaves a row that can be read: a quote in the
  middle or at the end of a field belongs to its text.
- Every row is one or the other. A row is counted by its lines only where a stray quote opens in a text of
  several lines, whose end is not known then; these tests corrupt rows of one line in that way.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow
import pyarrow.parquet
from hypothesis import strategies as st

COLUMNS = ("id", "text", "label")
Harm = Callable[["Written", str], bytes | str]


@dataclass(frozen=True)
class Written:
    """A row with an id of its own, and the name of what corrupts it ("" for nothing)."""

    number: int
    text: str
    label: str
    harm: str = ""

    @property
    def id(self) -> str:
        return f"r{self.number}"

    @property
    def sound(self) -> bool:
        return self.harm in ("", *HARMLESS)


def delimited(row: Written, separator: str) -> str:
    """The row as the csv module writes it, without a line end."""
    out = io.StringIO()
    csv.writer(out, delimiter=separator, lineterminator="\n").writerow([row.id, row.text, row.label])
    return out.getvalue()[:-1]


def one_line(text: str) -> str:
    """The text without anything that would be quoted."""
    return "".join(c for c in text if c not in '",\t\r\n') or "text"


def plain(row: Written, separator: str, before: str = "", after: str = "") -> str:
    """The row without quotes around its text, and with something before and after it."""
    return f"{row.id}{separator}{before}{one_line(row.text)}{after}{separator}{row.label}"


HARMLESS = ("byte order mark",)
IN_CSV: dict[str, Harm] = {
    "stray opening quote": lambda row, sep: plain(row, sep, before='"'),
    "stray closing quote": lambda row, sep: plain(row, sep, after='"'),
    "quote in the middle": lambda row, sep: plain(row, sep, before='so "', after="o"),
    "text after the closing quote": lambda row, sep: plain(row, sep, before='"', after='"x'),
    "space before the quote": lambda row, sep: plain(row, sep, before=' "', after=f'{sep} more"'),
    "unquoted separator": lambda row, sep: plain(row, sep, after=f"{sep}more"),
    "too few fields": lambda row, sep: row.id,
    "empty text": lambda row, sep: f"{row.id}{sep}{sep}{row.label}",
    "NUL": lambda row, sep: plain(row, sep, after="\0"),
    "bytes of another encoding": lambda row, sep: plain(row, sep, after="caf").encode() + b"\xe9" + b",x",
    "byte order mark": lambda row, sep: "\ufeff" + delimited(row, sep),
}
IN_JSON: dict[str, Harm] = {
    "cut off": lambda row, _: json.dumps({"id": row.id, "text": row.text})[:-2],
    "no text": lambda row, _: json.dumps({"id": row.id, "label": row.label}),
    "two texts": lambda row, _: f'{{"id": "{row.id}", "text": "a", "text": "b", "label": "{row.label}"}}',
    "not an object": lambda row, _: json.dumps([row.id, row.text, row.label]),
    "NUL": lambda row, _: json.dumps({"id": row.id, "text": row.text + "\0", "label": row.label}),
    "NULs only": lambda row, _: "\0" * 9,
    "bytes of another encoding": lambda row, _: f'{{"id": "{row.id}", "text": "caf'.encode() + b'\xe9"}',
    "byte order mark": lambda row, _: "\ufeff" + json.dumps(dict(zip(COLUMNS, fields(row), strict=True))),
}
IN_LINES: dict[str, Harm] = {
    "NUL": lambda row, _: one_line(row.text) + "\0",
    "empty text": lambda row, _: " ",
    "bytes of another encoding": lambda row, _: b"caf\xe9",
    "byte order mark": lambda row, _: "\ufeff" + row.text,
}
HARMS = {"csv": IN_CSV, "tsv": IN_CSV, "jsonl": IN_JSON, "lines": IN_LINES}
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32")


def fields(row: Written) -> tuple[str, str, str]:
    return row.id, row.text, row.label


def as_written(row: Written, kind: str) -> bytes | str:
    """The row in a format, without a line end; bytes where it is not in the file's encoding."""
    separator = "\t" if kind == "tsv" else ","
    if row.harm:
        return HARMS[kind][row.harm](row, separator)
    if kind == "lines":
        return row.text
    if kind == "jsonl":
        return json.dumps(dict(zip(COLUMNS, fields(row), strict=True)), ensure_ascii=False)
    return delimited(row, separator)


@dataclass(frozen=True)
class RowFile:
    """The bytes of a file, the encoding to set for it, and the rows that were written to it."""

    kind: str
    encoding: str
    rows: tuple[Written, ...]
    data: bytes


def text_file(kind: str, rows: Sequence[Written], ends: Sequence[str], encoding: str) -> RowFile:
    """A CSV, TSV, JSON lines or lines file; `ends` are the line ends, the header's first."""
    header = {"csv": ",".join(COLUMNS), "tsv": "\t".join(COLUMNS)}.get(kind)
    written = [*([header] if header else []), *(as_written(row, kind) for row in rows)]
    # The first piece is encoded with the byte order mark, if any, the others without it.
    without = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}.get(encoding, encoding)
    data = "".encode(encoding)
    for line, end in zip(written, ends, strict=False):
        data += (line if isinstance(line, bytes) else line.encode(without)) + end.encode(without)
    return RowFile(kind, "utf-8" if encoding == "utf-8-sig" else encoding, tuple(rows), data)


def parquet_file(rows: Sequence[Written]) -> RowFile:
    """A Parquet file; corrupted texts are missing, empty, or have a NUL."""
    harmed: dict[str, Any] = {"no text": None, "empty text": " ", "NUL": "a\0b", "U+FFFD": "\ufffd" * 9}
    texts = [harmed[row.harm] if row.harm else row.text for row in rows]
    columns = {"id": [r.id for r in rows], "text": texts, "label": [r.label for r in rows]}
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), out, row_group_size=3)
    return RowFile("parquet", "utf-8", tuple(rows), out.getvalue())


# No digits: a text whose lines end as the rows of the table do could not be told from rows.
TEXTS = st.text(st.sampled_from('ab ,;\t"\n\ré\u2028\ue000최'), min_size=1, max_size=30).filter(str.strip)


@st.composite
def row_files(draw: st.DrawFn, kinds: Sequence[str]) -> RowFile:
    """A file of one of the formats; its first three rows show what its rows are like."""
    kind = draw(st.sampled_from(kinds))
    harms = ["no text", "empty text", "NUL", "U+FFFD"] if kind == "parquet" else sorted(HARMS[kind])
    encoding = "utf-8" if kind == "parquet" else draw(st.sampled_from(ENCODINGS))
    if encoding != "utf-8":
        harms = [name for name in harms if name != "bytes of another encoding"]
    texts = TEXTS.map(one_line).filter(str.strip) if kind == "lines" else TEXTS
    written = [Written(i, f"plain text {'abc'[i]}", "0") for i in range(3)]
    for i, text in enumerate(draw(st.lists(texts, max_size=12)), start=3):
        harm = draw(st.sampled_from(["", "", *harms]))
        written.append(Written(i, text, draw(st.sampled_from("01")), harm))
    if kind == "parquet":
        return parquet_file(written)
    ends = [draw(st.sampled_from(["\n", "\r\n"])) for _ in range(len(written) + 1)]
    return text_file(kind, written, ends, encoding)
