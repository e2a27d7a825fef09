from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.config import DataConfig
from core.data.duplicates import clean
from core.data.labeled_rows import TableRow
from core.data.splitting import Split, apportion, assign, components, split, subset, targets
from core.errors import DataError
from core.records import SPLITS, Example

Rows = Callable[..., list[TableRow]]
EXPECTED = {
    "train": ["r0", "r1", "r3", "r4", "r6", "r7", "r9", "r10", "r11", "r12", "r14", "r17", "r18", "r19"],
    "val": ["r5", "r8", "r15"],
    "test": ["r2", "r13", "r16"],
}
PLAIN: dict[str, Any] = {"near_duplicates": {"enabled": False}}


def table(n: int, every: int = 4) -> list[TableRow]:
    """Rows r0, r1, ... with texts of their own; one in `every` is positive."""
    return [TableRow(Example(f"r{i}", f"text {i}", int(i % every == 0)), "data.csv", i + 2) for i in range(n)]


def made(rows: list[TableRow], seed: int = 42, **kwargs: Any) -> Split:
    config = DataConfig(path="data.csv", **{**PLAIN, **kwargs})
    return split(clean(rows, config), config, seed)


def ids(result: Split) -> dict[str, list[str]]:
    return {name: [row.example.id for row in result.used[name]] for name in SPLITS}


def test_split_ids_of_a_small_table_never_change() -> None:
    """These ids hold on every machine and version; if they change, so does every split of a user."""
    assert ids(made(table(20))) == EXPECTED


def test_the_split_depends_on_seed_and_ids_and_not_on_the_order_of_the_file() -> None:
    there, back = ids(made(table(60))), ids(made(table(60)[::-1]))
    assert {name: sorted(there[name]) for name in SPLITS} == {name: sorted(back[name]) for name in SPLITS}
    assert ids(made(table(60), seed=43)) != there


def test_rows_keep_the_order_of_the_file() -> None:
    for rows in made(table(60)).used.values():
        assert [row.line for row in rows] == sorted(row.line for row in rows)


@given(st.integers(20, 300), st.integers(2, 9), st.integers(0, 5))
def test_single_rows_meet_sizes_and_label_shares_exactly(n: int, every: int, seed: int) -> None:
    result = made(table(n, every), seed=seed)
    wanted = targets(DataConfig(path="a").sizes, _labels(table(n, every)))
    for name, row in zip(SPLITS, wanted, strict=False):
        labels = Counter(r.example.label for r in result.used[name])
        assert [labels[0], labels[1]] == row


def _labels(rows: list[TableRow]) -> tuple[int, int]:
    positive = sum(row.example.label for row in rows)
    return len(rows) - positive, positive


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 30)), min_size=30, max_size=120), st.integers(0, 3)
)
def test_units_are_never_divided_and_every_row_is_placed(values: list[tuple[int, int]], seed: int) -> None:
    rows = [TableRow(Example(f"r{i}", str(i), label), "a", i) for i, (label, _) in enumerate(values)]
    units = [unit for _, unit in values]
    placed = assign(rows, units, DataConfig(path="a"), seed)
    assert all(p in (0, 1, 2) for p in placed)
    by_unit: dict[int, set[int]] = {}
    for unit, split_number in zip(units, placed, strict=True):
        by_unit.setdefault(unit, set()).add(split_number)
    assert all(len(splits) == 1 for splits in by_unit.values())


def test_small_families_spread_over_all_splits_with_exact_sizes() -> None:
    rows = [
        TableRow(Example(f"r{i}", f"text {i}", i % 2, f"g{i // 3}" if i < 300 else None), "a", i)
        for i in range(1000)
    ]
    result = made(rows)
    assert [len(result.used[name]) for name in SPLITS] == [700, 150, 150]
    grouped = {name: sum(r.example.group is not None for r in result.used[name]) for name in SPLITS}
    assert 150 <= grouped["train"] <= 260
    assert min(grouped["val"], grouped["test"]) >= 15


def test_ten_large_groups_still_give_three_splits() -> None:
    rows = [TableRow(Example(f"r{i}", f"text {i}", i % 2, f"g{i % 10}"), "a", i) for i in range(1000)]
    rows = [
        TableRow(Example(r.example.id, r.example.text, i // 10 % 2, r.example.group), "a", i)
        for i, r in enumerate(rows)
    ]
    assert [len(made(rows).used[name]) for name in SPLITS] in ([700, 100, 200], [700, 200, 100])


def test_equal_texts_stay_together_even_without_a_search_for_near_duplicates() -> None:
    rows = [TableRow(Example(f"r{i}", f"text {i // 2}", i // 2 % 2), "a", i) for i in range(80)]
    result = made(rows, duplicates="keep")
    where = {row.example.text: name for name, found in result.used.items() for row in found}
    assert all(where[r.example.text] == name for name, found in result.used.items() for r in found)
    assert sum(len(found) for found in result.used.values()) == 80


def test_counts_instead_of_shares_leave_rows_over() -> None:
    result = made(table(100), sizes={"train": 40, "val": 8, "test": 12})
    assert [len(result.used[name]) for name in SPLITS] == [40, 8, 12]
    assert [sum(r.example.label for r in result.used[name]) for name in SPLITS] == [10, 2, 3]
    assert result.not_needed == 40


def test_sizes_larger_than_the_table_are_rejected() -> None:
    with pytest.raises(DataError) as e:
        made(table(50), sizes={"train": 40, "val": 8, "test": 12})
    assert str(e.value) == (
        "data.sizes asks for 60 rows and 50 are there after cleaning; lower the counts or give shares"
    )


def test_limits_are_stratified_and_nested() -> None:
    rows = table(400)
    examples = [row.example for row in rows]
    small, large = ([rows[i] for i in subset(examples, limit, 7)] for limit in (40, 80))
    assert _labels(small) == (30, 10)
    assert _labels(large) == (60, 20)
    assert set(small) < set(large)
    assert subset(examples, 0, 7) == subset(examples, 400, 7) == list(range(len(rows)))
    assert [len(made(rows, max_train_examples=10).used[name]) for name in SPLITS] == [10, 60, 60]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (
            table(2),
            "val and test would have no rows (train 1 negative, 1 positive; val 0 negative, 0 positive; "
            "test 0 negative, 0 positive); give more rows, other data.sizes, or another split",
        ),
        (
            [TableRow(Example(str(i), str(i), 1), "a", i) for i in range(20)],
            "train would have one class only (train 0 negative, 14 positive; val 0 negative, 3 positive; "
            "test 0 negative, 3 positive); check data.positive and data.negative, or give train rows of both",
        ),
    ],
)
def test_splits_that_cannot_be_learned_from_are_rejected(rows: list[TableRow], sentence: str) -> None:
    with pytest.raises(DataError) as e:
        made(rows)
    assert str(e.value) == sentence


def test_empty_split_due_to_a_giant_family_is_explained() -> None:
    rows = [TableRow(Example(f"r{i}", f"text {i}", i % 2, "one"), "a", i) for i in range(10)]
    with pytest.raises(DataError, match=r"10 rows \(100.0%\), among them r0, must stay in one split"):
        made(rows)


def test_kept_copies_get_unique_ids(rows: Rows) -> None:
    copies = [*rows([("a", "x", 1), ("a", "x", 1), ("a-2", "y", 0), ("a", "x", 1)], "train")]
    config = DataConfig(path="a", duplicates="keep", leaks="keep")
    rest = [*rows([("b", "p", 1)], "val"), *rows([("a", "x", 0)], "test")]
    result = split(clean([*copies, *rest], config), config, 1)
    assert ids(result) == {"train": ["a", "a-3", "a-2", "a-4"], "val": ["b"], "test": ["a-5"]}


@given(st.integers(0, 1000), st.lists(st.integers(0, 50), min_size=1, max_size=6))
def test_apportioned_parts_add_up_and_are_within_one_of_their_share(total: int, weights: list[int]) -> None:
    parts = apportion(total, weights)
    assert sum(parts) == (total if sum(weights) else 0)
    for part, weight in zip(parts, weights, strict=True):
        assert not sum(weights) or abs(part - total * weight / sum(weights)) < 1


def test_components_join_rows_by_any_key_except_none() -> None:
    assert components(5, [["a", "b", "a", None, None], [1, 2, 3, 2, None]]) == [0, 1, 0, 1, 4]
