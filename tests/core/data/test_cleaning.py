from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from core.config import DataConfig
from core.data.duplicates import Cleaned, clean
from core.data.labeled_rows import TableRow
from core.errors import DataError

Rows = Callable[..., list[TableRow]]

TABLE = [("1", "a", 1), ("2", "b", 0), ("3", " a ", 1), ("4", "b", 1), ("5", "c", 0), ("6", "a", 1)]


def cleaned(found: list[TableRow], **settings: Any) -> Cleaned:
    return clean(found, DataConfig(path="data.csv", **settings))


def ids(result: Cleaned) -> list[str]:
    return [row.example.id for part in result.parts.values() for row in part]


def test_first_duplicate_and_no_conflict_is_kept(rows: Rows) -> None:
    result = cleaned(rows(TABLE))
    assert ids(result) == ["1", "5"]
    assert (result.duplicates.texts, result.duplicates.rows, result.duplicates.dropped_rows) == (1, 3, 2)
    assert (result.conflicts.texts, result.conflicts.rows, result.conflicts.dropped_rows) == (1, 2, 2)
    assert result.conflicts.examples == ("2: data.csv:3, data.csv:5",)


def test_kept_duplicates_and_conflicts_are_counted(rows: Rows) -> None:
    result = cleaned(rows(TABLE), duplicates="keep", conflicts="keep")
    assert ids(result) == ["1", "2", "3", "4", "5", "6"]
    assert (result.duplicates.texts, result.conflicts.texts) == (1, 1)
    assert result.duplicates.dropped_rows == result.conflicts.dropped_rows == 0


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        (
            "duplicates",
            "texts that occur more than once: 1; fix them, or set data.duplicates: drop (or keep):"
            "\n  1: data.csv:2, data.csv:4, data.csv:7",
        ),
        (
            "conflicts",
            "texts with both labels: 1; fix them, or set data.conflicts: drop (or keep):"
            "\n  2: data.csv:3, data.csv:5",
        ),
    ],
)
def test_duplicates_and_conflicts_can_stop_the_run(rows: Rows, key: str, sentence: str) -> None:
    with pytest.raises(DataError) as e:
        cleaned(rows(TABLE), **{key: "error"})
    assert str(e.value) == sentence


def given_splits(rows: Any) -> list[TableRow]:
    train = rows([("1", "a", 1), ("2", "b", 0), ("3", "c", 0), ("4", "all", 1)], "train")
    val = rows([("5", "b ", 1), ("6", "d", 0), ("7", "all", 1)], "val")
    return [*train, *val, *rows([("8", "c", 0), ("9", "d", 0), ("10", "all", 1)], "test")]


def test_leaks_stop_the_run_with_counts_by_pair(rows: Rows) -> None:
    with pytest.raises(DataError) as e:
        cleaned(given_splits(rows))
    assert str(e.value).split("\n")[0] == (
        "texts shared between splits (train+val 2, train+test 2, val+test 2): 4; "
        "fix them, or set data.leaks: drop (or keep):"
    )


def test_leaks_are_dropped_from_train_then_val_and_never_from_test(rows: Rows) -> None:
    result = cleaned(given_splits(rows), leaks="drop")
    assert ids(result) == ["1", "5", "8", "9", "10"]
    assert result.leaks.dropped_rows == 5


def test_kept_leaks_are_counted(rows: Rows) -> None:
    result = cleaned(given_splits(rows), leaks="keep")
    assert len(ids(result)) == 10
    assert result.shared == {"train+val": 2, "train+test": 2, "val+test": 2}
    assert result.leaks.texts == 4


def test_text_with_another_label_in_another_split_is_a_leak(rows: Rows) -> None:
    result = cleaned(
        [*rows([("1", "a", 1)], "train"), *rows([("2", "a", 0)], "test")], leaks="drop", conflicts="error"
    )
    assert ids(result) == ["2"]
