"""Metrics of counts, many at once: the very values that one table of rows gives."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from core.evaluation.counted import OF_COUNTS, Counts, why_undefined
from core.evaluation.metrics import compute, value
from core.records import ScoredExample

COUNTS = st.tuples(*[st.integers(0, 6)] * 4)


def rows_of(tp: int, fp: int, fn: int, tn: int) -> list[ScoredExample]:
    kinds = [(1, 0.9)] * tp + [(0, 0.9)] * fp + [(1, 0.1)] * fn + [(0, 0.1)] * tn
    return [ScoredExample("r", gold, p, outside=0.0, valid=True) for gold, p in kinds]


@settings(max_examples=100, deadline=None)
@given(st.lists(COUNTS, min_size=1, max_size=5))
def test_many_tables_at_once_give_what_the_rows_of_each_give(tables: list[tuple[int, ...]]) -> None:
    tp, fp, fn, tn = (np.array(column) for column in zip(*tables, strict=True))
    counts = Counts.of(tp, fp, tp + fn, fp + tn)
    for name, of in OF_COUNTS.items():
        for found, table in zip(of(counts), tables, strict=True):
            wanted = value(compute(rows_of(*table), 0.5), name)
            assert math.isnan(found) if wanted is None else math.isclose(found, wanted, abs_tol=1e-12), name


def test_every_metric_has_a_reason_to_be_undefined() -> None:
    assert all(why_undefined(name) for name in OF_COUNTS)
    assert why_undefined("log_loss") == "no rows"
