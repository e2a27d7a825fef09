"""A stray quote loses only its own row, and texts of many lines are kept."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from core.data import tables
from core.data.csv_records import MANY_OF_ONE_COLUMN, MAX_LINES
from core.data.labeled_rows import FileReadings
from core.data.sources import TextFormat
from core.data.tables import RawRow

Read = Callable[..., FileReadings]
Write = Callable[..., Path]

LETTER = "Dear Ann,\n\nthank you for the tickets, the hotel and the rest.\nSee you, Bob\nPS, no reply needed"
LAYOUTS = {
    "text,label": lambda i, text: f"{text},{i % 2}",
    "id,text": lambda i, text: f"{i},{text}",
    "id,text,label": lambda i, text: f"r{i},{text},{'spam' if i % 3 else 'ham'}",
    "label,text": lambda i, text: f"{'spam' if i % 3 else 'ham'},{text}",
    "when,name,text": lambda i, text: f"2026-01-{i % 28 + 1:02d},{'Ann' if i % 2 else 'Bob'},{text}",
}
Layout = Callable[[int, str], str]


def table(layout: str, count: int, texts: dict[int, str]) -> str:
    """Rows 0 to count - 1 of plain texts, but for these."""
    row: Layout = LAYOUTS[layout]
    lines = [layout, *(row(i, texts.get(i, f"message number {i}")) for i in range(count))]
    return "".join(f"{line}\n" for line in lines)


def rows(content: str, tmp_path: Path, columns: tuple[str, ...] = ("text", "text")) -> list[RawRow]:
    path = tmp_path / "t.csv"
    path.write_text(content, newline="")
    return list(tables.rows(str(path), "csv", columns, TextFormat()))


@pytest.mark.parametrize("at", [1, 20, 500, 998])
def test_unclosed_quote_loses_one_row(write: Write, readings: Read, at: int) -> None:
    """A regression: 500 of 1,000 rows were lost as one bad row."""
    write(table("text,label", 1000, {at: '"message'}))
    found = readings(max_bad_rows=1)
    assert [(bad.file, bad.line) for bad in found.bad] == [("data.csv", at + 2)]
    assert found.bad[0].reason.startswith("quotes that do not close properly (")
    assert (found.seen, len(found.rows)) == (1000, 999)
    assert [row.line for row in found.rows] == [i + 2 for i in range(1000) if i != at]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("apart", [1, 2, 5, 9, 10, 50, 200, 700, MAX_LINES + 500])
def test_two_stray_quotes_do_not_merge_rows(layout: str, apart: int, tmp_path: Path) -> None:
    """A regression: 200 rows were merged into one text without a notice."""
    count = apart + 40
    found = rows(table(layout, count, {20: '"opens', 20 + apart: 'closes"'}), tmp_path)
    assert [row.line for row in found] == [i + 2 for i in range(count)]
    assert [row.line for row in found if row.problem] == [22]
    assert found[20 + apart].values == ('closes"', 'closes"')
    assert found[21].values[0] == ("message number 21" if apart > 1 else 'closes"')


def test_columns_may_change_within_a_file(tmp_path: Path) -> None:
    """A table sorted by its labels, and ids that grow another part."""
    texts = {900: '"opens', 902: 'closes"', 1500: '"opens', 1700: 'closes"'}
    row = [f"{texts.get(i, 'plain')},{'ham' if i < 800 else 'spam'}" for i in range(2000)]
    found = rows("text,label\n" + "\n".join(row) + "\n", tmp_path)
    assert (len(found), [r.line for r in found if r.problem]) == (2000, [902, 1502])


@pytest.mark.parametrize("text", ["We paid\n20,000 dollars", "1,000\n2,000\n3,000", "Hi,\n7,500 came"])
def test_numbers_in_a_text_do_not_look_like_rows(text: str, tmp_path: Path) -> None:
    """Next to numeric ids, and next to numeric labels."""
    ids = "".join(f'{i},"{text}"\n{i},plain\n' for i in range(9))
    assert [row.values[0] for row in rows(f"id,text\n{ids}", tmp_path)] == [text, "plain"] * 9
    labels = "".join(f'"{text}",{i % 2}\nplain,0\n' for i in range(9))
    assert [row.values[0] for row in rows(f"text,label\n{labels}", tmp_path)] == [text, "plain"] * 9


def test_swallowed_rows_may_include_ragged_or_blank_ones(tmp_path: Path) -> None:
    texts = dict.fromkeys(range(30, 90, 3), "with, comma")
    content = table("id,text,label", 120, {25: '"opens', **texts, 95: 'closes"'})
    found = rows(content.replace("r41,", "\nr41,"), tmp_path)
    assert len(found) == 120
    assert [row.line for row in found if row.problem] == [27, *(i + 2 + (i > 40) for i in texts)]


def test_one_column_table_has_its_own_limit(tmp_path: Path) -> None:
    """With one column every line is a row, so only many lines without any separator are evidence."""
    texts = ["text", *(f"message number {i}" for i in range(300))]
    texts[10], texts[210] = '"opens', 'closes"'
    found = rows("\n".join(texts) + "\n", tmp_path)
    assert (len(found), [row.line for row in found if row.problem]) == (300, [11])
    short = ["text", '"one', *["line of a poem"] * (MANY_OF_ONE_COLUMN - 3), 'last"']
    assert len(rows("\n".join(short) + "\n", tmp_path)) == 1


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("count", [1, 3, 40])
def test_texts_of_several_lines_are_kept_whole(layout: str, count: int, tmp_path: Path) -> None:
    texts = [
        LETTER,
        "two\nlines",
        "\n",
        ",\n,",
        "a,\nb",
        'say "no"\n"yes", 1\n',
        LETTER * 40,
        "x\r\ny",
        "1\n2",
    ]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(layout.split(","))
    place = layout.split(",").index("text")
    for i in range(count):
        for text in texts:
            row = LAYOUTS[layout](i, "?").split(",")
            row[place] = text
            writer.writerow(row)
    found = rows(out.getvalue(), tmp_path)
    assert [row.values[0] for row in found] == texts * count
    assert [row.problem for row in found] == [None] * len(found)


@pytest.mark.parametrize("separator", [",", "\t", ";"])
@pytest.mark.parametrize("columns", [["text"], ["id", "text"], ["text", "label"], ["id", "text", "label"]])
def test_long_document_is_kept_whole(separator: str, columns: list[str], tmp_path: Path) -> None:
    """Up to the documented limit of lines."""
    sentence = 'It rained, so we stayed; nobody minded.\tThen, at last, "sun"!\n'
    document = "".join(f"{i}. {sentence}" if i % 3 else "\n" for i in range(MAX_LINES - 1)) + "The end"
    path = tmp_path / "t.csv"
    with path.open("w", newline="") as f:
        writer = csv.writer(f, delimiter=separator, lineterminator="\n")
        values = {"id": "r7", "text": document, "label": "1"}
        plain = {**values, "text": "short"}
        writer.writerows([columns, *([row[c] for c in columns] for row in (plain, values, plain))])
    found = list(tables.rows(str(path), "csv", ("text", "text"), TextFormat(separator=separator)))
    assert [row.values[0] for row in found] == ["short", document, "short"]


def test_field_with_too_many_lines_is_a_bad_row(tmp_path: Path) -> None:
    """The limit is stated in the reason."""
    found = rows(
        'id,text\n1,"' + "no separator\n" * (MAX_LINES + 1) + 'end"\n2,fine\n', tmp_path, ("text", "id")
    )
    assert found[0].problem is not None
    assert f"{MAX_LINES:,} lines" in found[0].problem
    assert found[-1].values == ("fine", "2")


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        ('1,"opens,0\n2,b,1\n', [(2, None), (3, "b")]),
        ('1,"opens,0\n2,", then",1\n', [(2, None), (3, ", then")]),
        ('1,"opens,0\n2,"fine, then",1\n', [(2, None), (3, "fine, then")]),
        ('1,"opens,0\n2,",",1\n', [(2, None), (3, ",")]),
        ('1,"opens,0\n2,"",1\n', [(2, None), (3, "")]),
        ('1,"opens,0\n2,"""yes"" she said",1\n', [(2, None), (3, '"yes" she said')]),
        ('1,"opens,0\n2,closes",1\n', [(2, None), (3, 'closes"')]),
        ('1,"two\nlines","opens\n2,b,1\n', [(3, None), (4, "b")]),
        ('1,"two\nlines",0\n2,"opens,1\n3,c,0\n', [(2, "two\nlines"), (4, None), (5, "c")]),
        ('1,a,"0\n2,b,1\n', [(2, None), (3, "b")]),
        ('"1,a,0\n2,b,1\n', [(2, None), (3, "b")]),
        ('1,"a"b,0\n2,"b"c,1\n', [(2, None), (3, None)]),
        ('1,"a" ,0\n2,b,1\n', [(2, None), (3, "b")]),
        ('1,say "a, b",0\n2,b "c",1\n', [(2, None), (3, 'b "c"')]),
        ('"1","opens,"0"\n"2","b","1"\n', [(2, None), (3, "b")]),
        ('"1","opens,0\n"2","b","1"\n', [(2, None), (3, "b")]),
    ],
)
def test_stray_quote_is_reported_at_the_line_where_its_field_opens(
    bad: str, expected: list[tuple[int, str | None]], tmp_path: Path
) -> None:
    """Whatever the next row begins with."""
    plain = "".join(f"{i},plain,{i % 2}\n" for i in range(4, 30))
    found = rows(f"id,text,label\n{bad}{plain}", tmp_path, ("text", "id", "label"))
    assert len(found) == len(expected) + 26
    assert [(row.line, row.values[0] if row.values else None) for row in found[: len(expected)]] == expected
    assert all(row.values[0] == "plain" for row in found[len(expected) :])


@pytest.mark.parametrize("end", ["", "\n"])
def test_file_truncated_inside_quotes_loses_its_last_row(end: str, tmp_path: Path) -> None:
    found = rows(f'id,text\n1,a\n2,b\n3,"cut o{end}', tmp_path)
    assert [(row.line, row.problem is None) for row in found] == [(2, True), (3, True), (4, False)]


def test_quotes_are_text_if_quotes_is_false(write: Write, readings: Read) -> None:
    """The remedy that the reason names works."""
    write(table("text,label", 40, {5: '"opens', 30: 'closes"'}))
    assert [row.example.text for row in readings(quotes=False).rows][5] == '"opens'
