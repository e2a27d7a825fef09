"""Slices have the metrics of their own rows; faithfulness counts citations, quotations and stated labels."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.evaluation.bootstrap import Judged
from core.evaluation.metrics import compute
from core.evaluation.predictions import Generated
from core.evaluation.slices import (
    CountedShare,
    Faithfulness,
    by_agreement,
    by_cited_rule,
    by_group,
    by_length,
    faithfulness,
    slices,
)
from tests.core.evaluation.scored import Row, draw, predictions

RULES = ("R1", "R2", "R10")


@given(st.lists(st.text(max_size=30), max_size=60))
def test_every_text_is_in_the_one_length_bucket_that_contains_it(texts: list[str]) -> None:
    found = by_length(texts)
    assert len(found) <= 4
    for i, text in enumerate(texts):
        names = [name for name, rows in found.items() if rows[i]]
        assert len(names) == 1
        low, high = names[0].removesuffix(" characters").split(" to ")
        assert int(low) <= len(text) <= int(high)


def test_length_buckets_have_about_equal_sizes() -> None:
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


def test_group_slices_are_sorted_by_size_and_limited() -> None:
    found = by_group(["b", "a", None, "b", "a", "c"])
    assert list(found) == ["a", "b", "c"]
    assert found["b"].tolist() == [True, False, False, True, False, False]
    assert len(by_group([f"g{i}" for i in range(50)])) == 20


def test_agreement_slices_leave_out_texts_without_a_teacher_label() -> None:
    found = by_agreement(np.array([True, True, False]), [1, 0, None])
    assert [rows.tolist() for rows in found.values()] == [[True, False, False], [False, True, False]]


def test_a_slice_has_the_metrics_of_its_rows() -> None:
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


def test_a_slice_of_one_class_has_reasons_for_undefined_metrics() -> None:
    sample = draw(100, seed=2)
    judged = Judged(sample.probability, sample.probability >= 0.5)
    found = slices("class", {"positive": sample.positive}, sample.positive, judged, resamples=50)[0]
    assert found.metrics["auroc"].undefined == "the rows are of one class"
    assert found.metrics["recall"].value is not None


TEXT = "Win a free prize now"


def said(
    reasoning: str | None, *, label: int | None = 1, p: float | None = 0.6, gold: int = 1, asked: bool = True
) -> Row:
    text = (reasoning or "") if asked else None
    return Row("r", gold, p, generated=Generated(text, reasoning, label))


def of(*rows: Row, threshold: float = 0.7) -> Faithfulness:
    decided = [int(r.probability is not None and r.probability >= threshold) for r in rows]
    return faithfulness(predictions(rows), [TEXT] * len(rows), decided, ("R1", "R2"))


def pair(counted: CountedShare) -> tuple[int, int]:
    return counted.count, counted.total


def test_rules_and_quotes_are_counted_per_row_and_in_total() -> None:
    found = of(
        said('R1: it says "free prize" and "call us"'),
        said('R1 and R9 apply, "win"'),
        said("no citation"),
        said(None),
        said("R1", asked=False),
    )
    assert pair(found.with_reasoning) == (3, 4)
    assert pair(found.cites_a_rule) == (2, 3)
    assert pair(found.without_invented_rule) == (2, 3)
    assert pair(found.without_invented_quote) == (2, 3)
    assert pair(found.rules_that_exist) == (2, 3)
    assert pair(found.quotes_that_occur) == (2, 3)
    assert found.rules_that_exist.share.method == "wilson"


def test_stated_labels_are_compared_with_probability_decision_and_gold() -> None:
    found = of(said("a", p=0.6), said("b", p=0.8), said("c", label=0, p=0.8, gold=0), said("d", label=None))
    assert pair(found.label_is_more_probable) == (2, 3)
    assert pair(found.label_is_decision) == (1, 3)  # 0.6 is below the threshold of 0.7
    assert pair(found.label_is_gold) == (3, 3)


def test_counts_are_undefined_with_a_reason_if_nothing_was_generated() -> None:
    found = of(said("R1", asked=False))
    counted = [getattr(found, f.name) for f in dataclasses.fields(found)]
    assert all(c.total == 0 and c.share.value is None for c in counted)
    assert found.with_reasoning.share.undefined == "no reasoning was asked for"
    assert found.quotes_that_occur.share.undefined == "nothing is quoted"


def test_quotations_are_compared_in_unicode_normal_form() -> None:
    text = "Gagnez un caf\u00e9 gratuit \u00e0 No\u00ebl"
    row = said('R1: it says "cafe\u0301 gratuit" and "th\u00e9"')
    found = faithfulness(predictions([row]), [text], [1], ("R1",))
    assert pair(found.quotes_that_occur) == (1, 2)


def test_every_rule_of_a_range_is_counted() -> None:
    found = of(said("R1-R2 apply"), said("R1\u2013R9 apply"))
    assert pair(found.rules_that_exist) == (4, 5)
    assert pair(found.without_invented_rule) == (1, 2)
