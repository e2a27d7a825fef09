"""Slices: each row where it belongs, metrics those of the slice's rows alone."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.evaluation.bootstrap import Judged
from core.evaluation.metrics import compute
from core.evaluation.slices import by_agreement, by_cited_rule, by_group, by_length, slices
from tests.core.evaluation.scored import draw

RULES = ("R1", "R2", "R10")


@given(st.lists(st.text(max_size=30), max_size=60))
def test_every_text_is_in_one_bucket_of_length_that_names_it(texts: list[str]) -> None:
    found = by_length(texts)
    assert len(found) <= 4
    for i, text in enumerate(texts):
        names = [name for name, rows in found.items() if rows[i]]
        assert len(names) == 1
        low, high = names[0].removesuffix(" characters").split(" to ")
        assert int(low) <= len(text) <= int(high)


def test_buckets_of_length_are_about_equal() -> None:
    found = by_length(["x" * k for k in range(100)])
    assert [int(rows.sum()) for rows in found.values()] == pytest.approx([25] * 4, abs=1)


def test_a_row_is_in_the_slice_of_every_rule_it_cites() -> None:
    found = by_cited_rule(["R1 and [R2]", "as R10 says", 'it says "R1"', None, "R7 alone"], RULES)
    assert {name: rows.tolist() for name, rows in found.items()} == {
        "R1": [True, False, False, False, False],
        "R2": [True, False, False, False, False],
        "R10": [False, True, False, False, False],
        "no rule": [False, False, True, False, True],
    }


def test_the_largest_groups_come_first_and_rows_without_one_in_none() -> None:
    found = by_group(["b", "a", None, "b", "a", "c"])
    assert list(found) == ["a", "b", "c"]
    assert found["b"].tolist() == [True, False, False, True, False, False]
    assert len(by_group([f"g{i}" for i in range(50)])) == 20


def test_agreement_leaves_out_what_the_teacher_did_not_say() -> None:
    found = by_agreement(np.array([True, True, False]), [1, 0, None])
    assert [rows.tolist() for rows in found.values()] == [[True, False, False], [False, True, False]]


def test_a_slices_metrics_are_those_of_its_rows() -> None:
    sample = draw(200, seed=1)
    rows = np.arange(200) < 80
    judged = Judged(sample.probability, sample.probability >= 0.5)
    labelling = {"first": rows, "few": np.arange(200) < 9}
    found = slices("place", labelling, sample.positive, judged, resamples=200)
    assert [(s.by, s.name, s.rows, s.positive) for s in found] == [
        ("place", "first", 80, int(sample.positive[:80].sum()))
    ]
    m = compute(sample.rows().take(range(80)), 0.5)
    for name, interval in found[0].metrics.items():
        assert interval.value == pytest.approx(m[name], abs=1e-12)
        assert interval.low is not None
    json.dumps(dataclasses.asdict(found[0]), allow_nan=False)


def test_a_slice_of_one_class_says_what_is_undefined() -> None:
    sample = draw(100, seed=2)
    judged = Judged(sample.probability, sample.probability >= 0.5)
    found = slices("class", {"positive": sample.positive}, sample.positive, judged, resamples=50)[0]
    assert found.metrics["auroc"].undefined == "the rows are of one class"
    assert found.metrics["recall"].value is not None
