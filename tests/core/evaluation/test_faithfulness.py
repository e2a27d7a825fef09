"""Faithfulness: citations, quotations and stated labels counted row by row."""

from __future__ import annotations

import dataclasses

from core.evaluation.predictions import Generated
from core.evaluation.slices import CountedShare, Faithfulness, faithfulness
from tests.core.evaluation.scored import Row, predictions

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


def test_rules_and_quotes_are_counted_by_row_and_by_themselves() -> None:
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


def test_the_stated_label_is_held_against_probability_decision_and_gold() -> None:
    found = of(said("a", p=0.6), said("b", p=0.8), said("c", label=0, p=0.8, gold=0), said("d", label=None))
    assert pair(found.label_is_more_probable) == (2, 3)
    assert pair(found.label_is_decision) == (1, 3)  # 0.6 is below the threshold of 0.7
    assert pair(found.label_is_gold) == (3, 3)


def test_where_nothing_was_asked_all_is_null_with_a_reason() -> None:
    found = of(said("R1", asked=False))
    counted = [getattr(found, f.name) for f in dataclasses.fields(found)]
    assert all(c.total == 0 and c.share.value is None for c in counted)
    assert found.with_reasoning.share.undefined == "no reasoning was asked for"
    assert found.quotes_that_occur.share.undefined == "nothing is quoted"


def test_quotations_are_compared_in_one_normal_form() -> None:
    text = "Gagnez un caf\u00e9 gratuit \u00e0 No\u00ebl"
    row = said('R1: it says "cafe\u0301 gratuit" and "th\u00e9"')
    found = faithfulness(predictions([row]), [text], [1], ("R1",))
    assert pair(found.quotes_that_occur) == (1, 2)


def test_every_rule_of_a_range_is_counted() -> None:
    found = of(said("R1-R2 apply"), said("R1\u2013R9 apply"))
    assert pair(found.rules_that_exist) == (4, 5)
    assert pair(found.without_invented_rule) == (1, 2)
