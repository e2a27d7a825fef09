"""The predecessor's three tables, to the character."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from core.store.objects import Store
from core.summary.classic import method_and_id, shown
from core.summary.intervals import Mode
from core.summary.output import summarise
from tests.core.summary.making import write_run

EXPECTED = Path(__file__).parent / "expected.csv"


def test_the_tables_are_those_made_by_hand(store: Store) -> None:
    """On every kind of root: names with dates and without, commas and quotes in them, one split only."""
    write_run(store, "sft_20260102_030405", macro_f1=0.77775)
    write_run(store, "b_20260101_000000", splits=["test"], modes=["reasoning"], macro_f1=None)
    write_run(store, 'a,"b"_x', splits=["test"], modes=["label_only"])
    write_run(store, "plain", splits=["train"], modes=["reasoning"])
    found, text = summarise(store, "both", "csv")
    assert text == EXPECTED.read_text(encoding="utf-8")
    assert found.passed == []


@pytest.mark.parametrize("root", ["memory"], indirect=True)
@pytest.mark.parametrize("mode", ["reasoning", "label_only"])
def test_one_mode_is_that_mode_alone(store: Store, mode: Mode) -> None:
    write_run(store, "a")
    _, text = summarise(store, mode, "csv")
    rows = [row for row in csv.reader(io.StringIO(text)) if row and row[0] == "a"]
    assert [row[3] for row in rows] == [mode] * 3


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.12345, "0.1235"),
        (0.00005, "0.0001"),
        (2.5, "2.5000"),
        (-0.12345, "-0.1235"),
        (1e-300, "0.0000"),
        (1e300, f"{10**300}.0000"),
        (7, "7"),
        (None, ""),
    ],
)
def test_floats_have_four_decimals_halves_up(value: float | None, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize(
    ("run", "method", "run_id"),
    [
        ("two_words_20260102_030405", "two_words", "20260102_030405"),
        ("quick_start-seed2", "quick", "start-seed2"),
        ("a_2026_030405", "a_2026", "030405"),
        ("plain", "plain", ""),
    ],
)
def test_a_runs_name_is_method_and_id(run: str, method: str, run_id: str) -> None:
    assert method_and_id(run) == (method, run_id)
