"""The roles that `init` gives to columns, and where it asks instead of guessing."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import DataError
from core.scaffold import Unclear
from tests.core.scaffold.tables import roles, text, texts, with_column, write

TWELVE = [f"author {i}" for i in range(25)]


def labeled(*values: str, name: str = "label") -> list[list[str]]:
    """Texts with these labels in turn."""
    return with_column([["body"], *([text(i)] for i in range(60))], name, values)


def test_every_column_of_a_full_table_has_its_role(tmp_path: Path) -> None:
    rows = with_column(texts(), "order_id", [f"o{i}" for i in range(60)])
    rows = with_column(with_column(rows, "author", TWELVE), "split", ["train", "train", "dev", "test", "val"])
    rows = [["val" if cell == "dev" else cell for cell in row] for row in rows]
    found = roles(write(tmp_path / "t.csv", rows))
    assert (found.text, found.label, found.id, found.group) == ("text", "label", "order_id", "author")
    assert (found.split, found.positive, found.negative) == ("split", (), ())
    assert set(found.why) == {"text_column", "label_column", "id_column", "group_column", "split_column"}


def test_an_id_that_repeats_and_a_split_that_lacks_one_are_not_taken(tmp_path: Path) -> None:
    rows = with_column(with_column(texts(), "id", ["a", "b", "c"]), "split", ["train", "test"])
    found = roles(write(tmp_path / "t.csv", rows))
    assert (found.id, found.split, found.group) == (None, None, None)


@pytest.mark.parametrize(
    ("values", "positive", "negative"),
    [
        (("0", "1"), (), ()),
        (("TRUE", "False"), (), ()),
        (("spam", "ham", "spam"), ("spam",), ("ham",)),
        (("toxic", "not toxic", "toxic"), ("toxic",), ("not toxic",)),
        (("unsafe", "safe", "unsafe"), ("unsafe",), ("safe",)),
        (("yes", "unknown", "yes"), ("yes",), ("unknown",)),
        (("apples", "pears", "apples"), ("pears",), ("apples",)),
    ],
)
def test_the_positive_label_is_found_by_its_name_else_it_is_the_rarer_one(
    tmp_path: Path, values: tuple[str, ...], positive: tuple[str, ...], negative: tuple[str, ...]
) -> None:
    found = roles(write(tmp_path / "t.csv", labeled(*values)))
    assert (found.positive, found.negative) == (positive, negative)


def test_several_possible_labels_are_asked_for_and_a_name_decides(tmp_path: Path) -> None:
    rows = texts()
    for i in range(40):
        rows = with_column(rows, f"flag {i}", ["a", "b"])
    path = write(tmp_path / "t.csv", [row[:1] + row[2:] for row in rows])
    with pytest.raises(Unclear, match=r"40 columns could be the label: .* and 32 more.*--label-column") as e:
        roles(path)
    assert (e.value.option, len(e.value.choices)) == ("label_column", 40)
    assert roles(path, label_column="flag 7").label == "flag 7"
    assert roles(write(tmp_path / "named.csv", rows)).label == "label"


def test_three_values_are_mapped_by_naming_the_positive_ones(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", labeled("good", "bad", "neutral"))
    with pytest.raises(Unclear, match=r"3 values .* --positive ") as e:
        roles(path)
    assert (e.value.option, set(e.value.choices)) == ("positive", {"good", "bad", "neutral"})
    found = roles(path, positive=("Good",))
    assert (found.positive, found.negative) == (("good",), ("bad", "neutral"))
    found = roles(path, positive=("good",), negative=("bad",))
    assert (found.positive, found.negative) == (("good",), ("bad",))


def test_numbers_are_mapped_by_a_threshold(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", labeled("1", "2", "3", "4", "5", name="stars"))
    with pytest.raises(Unclear, match="--positive 5, or name the least positive one: --label-threshold 3"):
        roles(path)
    found = roles(path, label_threshold=4.0)
    assert (found.positive, found.label_threshold) == ((), 4.0)
    scores = write(tmp_path / "s.csv", labeled(*(str(i / 7) for i in range(50)), name="label"))
    with pytest.raises(Unclear, match=r"50 values .* name the least positive one: --label-threshold") as e:
        roles(scores)
    assert (e.value.option, e.value.choices) == ("label_threshold", ())


@pytest.mark.parametrize(
    ("rows", "options", "sentence"),
    [
        (labeled(*(f"title {i}x" for i in range(60))), {}, "60 values .* not a label of two classes"),
        (
            labeled(*(f"t{i}" for i in range(60)), name="other"),
            {},
            "no column has the 2 to 20 .*--label-column",
        ),
        (labeled("1"), {}, "only the value '1'"),
        (labeled(""), {"label_column": "label"}, "has no values"),
        (texts(), {"label_column": "lable"}, "--label-column lable: .* did you mean 'label'"),
        (texts(), {"label_column": "text"}, "already is the text"),
        (texts(), {"positive": ("2",)}, "--positive 2: 'label' has no such value"),
        (texts(), {"negative": ("0",)}, "--negative needs --positive"),
        (texts(), {"positive": ("0", "1")}, "all values of 'label' are named"),
        (texts(), {"positive": ("1",), "label_threshold": 1.0}, "give one"),
        (texts(), {"label_threshold": 9.0}, "on one side of it; they are from 0 to 1"),
        (labeled("a", "b"), {"label_threshold": 9.0}, "other values than numbers"),
        ([["label", "n"], *([str(i % 2), str(i)] for i in range(60))], {}, "--text-column"),
        (texts()[1:], {}, "the first line seems to be a row"),
    ],
)
def test_what_no_run_could_use_is_one_message(
    tmp_path: Path, rows: list[list[str]], options: dict[str, object], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        roles(write(tmp_path / "t.csv", rows), **options)
