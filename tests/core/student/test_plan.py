"""The order of batches and the learning rate of each step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.config import StudentConfig
from core.errors import DataError
from core.student.train_stage import interleave, learning_rate, plan_segments, plan_steps, total_steps

LABELS = [1, 0, 0, 0, 1, 0, 0, 1, 0, 0]
HASHES = [f"h{i}" for i in range(10)]


def config(**settings: object) -> StudentConfig:
    return StudentConfig.model_validate({"batch_size": 4, "epochs": 2.0, **settings})


def test_every_epoch_shows_every_example_once() -> None:
    steps = plan_steps(config(), 42, LABELS, HASHES)
    assert len(steps) == 6
    for epoch in (steps[:3], steps[3:]):
        assert sorted(r for s in epoch for r in s.rows) == list(range(10))


def test_the_order_is_the_same_on_all_machines_and_versions() -> None:
    rows = [s.rows for s in plan_steps(config(), 42, LABELS, HASHES)]
    assert rows == [(2, 7, 5, 8), (4, 6, 3, 9), (0, 1), (8, 4, 9, 3), (7, 2, 6, 1), (0, 5)]


def test_another_seed_gives_another_order() -> None:
    one, two = (plan_steps(config(), seed, LABELS, HASHES) for seed in (1, 2))
    assert [s.rows for s in one] != [s.rows for s in two]


def test_a_batch_hash_depends_on_examples_not_on_positions() -> None:
    moved = plan_steps(config(), 42, LABELS, [f"other{i}" for i in range(10)])
    same = plan_steps(config(learning_rate=1e-5), 42, LABELS, HASHES)
    before = plan_steps(config(), 42, LABELS, HASHES)
    assert all(a.batch_hash != b.batch_hash for a, b in zip(before, moved, strict=True))
    assert all(a.batch_hash == b.batch_hash for a, b in zip(before, same, strict=True))


@given(st.integers(1, 60), st.integers(0, 60))
def test_interleaving_keeps_every_prefix_near_the_overall_ratio(positive: int, negative: int) -> None:
    order = interleave([list(range(positive)), list(range(positive, positive + negative))])
    share = positive / (positive + negative)
    for n in range(1, len(order) + 1):
        seen = sum(row < positive for row in order[:n])
        assert abs(seen - share * n) <= 1.0


def test_the_linear_schedule_warms_up_from_near_zero_and_ends_at_its_minimum() -> None:
    c = config(learning_rate=1.0, min_lr_ratio=0.1, warmup_steps=4)
    rates = [learning_rate(c, s, 20) for s in range(20)]
    assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rates[4] == 1.0
    assert rates[-1] == pytest.approx(0.1)
    assert rates[4:] == sorted(rates[4:], reverse=True)


def test_the_constant_schedule_is_flat() -> None:
    c = config(schedule="constant", learning_rate=0.3)
    assert {learning_rate(c, s, 9) for s in range(9)} == {0.3}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({"steps": 7, "epochs": None}, 7), ({"epochs": 0.1}, 1), ({"epochs": 1.5}, 4), ({"epochs": None}, 9)],
)
def test_steps_come_from_steps_or_epochs(settings: dict[str, object], expected: int) -> None:
    assert total_steps(config(**settings), 10) == expected


def test_segments_end_at_every_evaluation_and_save_and_cover_all_steps() -> None:
    found = plan_segments(25, interval=10, save_every=4)
    assert [s.stop for s in found] == [4, 8, 10, 12, 16, 20, 24, 25]
    assert [s.stop for s in found if s.evaluate] == [10, 20, 25]
    assert [s.start for s in found] == [0, *(s.stop for s in found[:-1])]


def test_training_without_examples_is_an_error() -> None:
    with pytest.raises(DataError, match="no example is left to train on"):
        plan_steps(config(), 1, [], [])
