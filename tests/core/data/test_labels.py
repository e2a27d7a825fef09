from __future__ import annotations

from typing import Any

import pytest

from core.config.data import DataConfig
from core.data.reading import LabelMap


def label(raw: str, **settings: Any) -> int | None:
    return LabelMap(DataConfig(path="a.csv", **settings)).read(raw)


@pytest.mark.parametrize("raw", ["1", " 1 ", "1.0", "01", "True", "YES", "positive", "1e0"])
def test_names_of_the_positive_class_and_numbers_that_equal_them(raw: str) -> None:
    assert label(raw) == 1


@pytest.mark.parametrize("raw", ["0", "0.0", "-0", "FALSE", "No\n", "negative"])
def test_names_of_the_negative_class_and_numbers_that_equal_them(raw: str) -> None:
    assert label(raw) == 0


@pytest.mark.parametrize("raw", ["", "2", "0.5", "nan", "inf", "maybe", "1_", "1_0"])
def test_everything_else_is_outside_the_map(raw: str) -> None:
    assert label(raw) is None


def test_several_names_may_map_to_one_class_and_case_does_not_matter() -> None:
    names = {"positive": ("SPAM", "Straße"), "negative": ("ham",)}
    assert [label(raw, **names) for raw in ("spam", "STRASSE", "Ham", "1")] == [1, 1, 0, None]


def test_true_is_one_unless_it_is_a_name_of_its_own() -> None:
    assert label("True", positive=("1",), negative=("0",)) == 1
    assert label("True", positive=("1",), negative=("true",)) == 0


@pytest.mark.parametrize(
    ("raw", "expected"), [("1", 0), ("3", 1), ("2.9", 0), ("5", 1), ("nan", None), ("yes", 1)]
)
def test_with_a_threshold_numbers_go_by_it_whatever_the_names(raw: str, expected: int | None) -> None:
    assert label(raw, label_threshold=3) == expected
