"""Metrics with chosen values, for tests of the files that contain them."""

from __future__ import annotations

from dataclasses import replace

from core.evaluation.metrics import Metrics, compute
from tests.core.evaluation.scored import Row, predictions


def metrics(right: int, *, n: int = 100) -> Metrics:
    """Metrics of `n` rows, a fifth positive, whose first `right` rows are scored correctly."""
    rows = []
    for i in range(n):
        gold = int(i % 5 == 0)
        says_one = (gold == 1) == (i < right)
        rows.append(Row(f"r{i}", gold, 0.9 if says_one else 0.1))
    return compute(predictions(rows), 0.5)


def constant(n: int = 100) -> Metrics:
    """Metrics of the majority baseline on the same rows."""
    return compute(predictions([Row(f"r{i}", int(i % 5 == 0), 0.4) for i in range(n)]), 0.5)


def with_values(metrics: Metrics, **values: float | None) -> Metrics:
    """Replace some values."""
    return replace(metrics, values={**metrics.values, **values})
