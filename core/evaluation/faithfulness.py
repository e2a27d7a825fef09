"""Whether what the student writes is true: the rules it cites, the words it quotes, the label it states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.evaluation.intervals import Interval, proportion
from core.evaluation.predictions import Predictions, at_or_above
from core.rejection.cited import cited, missing_quotes, quotes

EVEN_ODDS = 0.5
MIN_QUOTE = 3
"""Shorter parts of a quotation are not looked for, as in the rejection rule quote_not_in_text."""


@dataclass(frozen=True, slots=True)
class Counted:
    """`count` of `total`, with Wilson's interval; rows of one reasoning are taken as independent."""

    count: int
    total: int
    share: Interval


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """Of `rows` that were asked for a reasoning, how many keep to what is there.

    `with_reasoning` reached one that can be read; `cites_a_rule` cite one that exists, and
    `without_invented_rule` none that does not; `without_invented_quote` quote only words of the text.
    `rules_that_exist` and `quotes_that_occur` count the citations and quotations themselves.
    `label_is_more_probable`: the stated label is the one the model gave more probability, before
    calibration; `label_is_decision`: it is the label at the threshold; `label_is_gold`: it is right.
    """

    with_reasoning: Counted
    cites_a_rule: Counted
    without_invented_rule: Counted
    without_invented_quote: Counted
    rules_that_exist: Counted
    quotes_that_occur: Counted
    label_is_more_probable: Counted
    label_is_decision: Counted
    label_is_gold: Counted


def faithfulness(
    p: Predictions,
    texts: Sequence[str],
    decided: Sequence[int | None],
    known: tuple[str, ...],
) -> Faithfulness:
    """Return how faithful the generated answers are; rows without one are left out.

    `decided` is each row's label at its threshold, None where there is none; `known` the rulebook's ids.
    """
    asked = [i for i, generated in enumerate(p.generated) if generated.text is not None]
    reasonings = [p.generated[i].reasoning for i in asked]
    reasoned = [
        (reasoning, texts[i]) for i, reasoning in zip(asked, reasonings, strict=True) if reasoning is not None
    ]
    rules = [cited(reasoning, known) for reasoning, _ in reasoned]
    quoted = [len(quotes(reasoning)) for reasoning, _ in reasoned]
    missing = [len(missing_quotes(reasoning, text, MIN_QUOTE)) for reasoning, text in reasoned]
    exist = [[rule in known for rule in found] for found in rules]
    return Faithfulness(
        with_reasoning=_counted([r is not None for r in reasonings], "no reasoning was asked for"),
        cites_a_rule=_counted([any(e) for e in exist], _NO_REASONING),
        without_invented_rule=_counted([all(e) for e in exist], _NO_REASONING),
        without_invented_quote=_counted([m == 0 for m in missing], _NO_REASONING),
        rules_that_exist=_counted([e for found in exist for e in found], "no rule is cited"),
        quotes_that_occur=_of(sum(quoted) - sum(missing), sum(quoted), "nothing is quoted"),
        **_labels(p, [i for i in asked if p.generated[i].label is not None], decided),
    )


_NO_REASONING = "no reasoning can be read"


def _labels(p: Predictions, stated: Sequence[int], decided: Sequence[int | None]) -> dict[str, Counted]:
    """What the labels of the rows that state one agree with."""
    labels = {i: p.generated[i].label for i in stated}
    scored = [i for i in stated if not np.isnan(p.probability[i])]
    probable = at_or_above(p.probability, EVEN_ODDS).tolist()
    gold = p.positive.tolist()
    return {
        "label_is_more_probable": _counted([labels[i] == probable[i] for i in scored], _NO_LABEL),
        "label_is_decision": _counted(
            [labels[i] == decided[i] for i in stated if decided[i] is not None], _NO_LABEL
        ),
        "label_is_gold": _counted([labels[i] == gold[i] for i in stated], _NO_LABEL),
    }


_NO_LABEL = "no answer states a label that can be compared"


def _counted(hits: Sequence[bool], why: str) -> Counted:
    return _of(sum(hits), len(hits), why)


def _of(count: int, total: int, why: str) -> Counted:
    return Counted(count, total, proportion(count, total, why))
