"""Whether what the student writes is true: the rules it cites, the words it quotes, the label it states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.evaluation.columns import predict
from core.evaluation.intervals import Interval, proportion
from core.records import ScoredExample
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
    rows: Sequence[ScoredExample],
    texts: Sequence[str],
    decided: Sequence[int | None],
    known: tuple[str, ...],
) -> Faithfulness:
    """What the generated answers of `rows` are worth; rows that were asked for none are left out.

    `decided` is each row's label at its threshold, None where there is none; `known` the rulebook's ids.
    """
    asked = [of for of in zip(rows, texts, decided, strict=True) if of[0].raw_output is not None]
    reasoned = [(row.reasoning, text) for row, text, _ in asked if row.reasoning is not None]
    rules = [cited(reasoning, known) for reasoning, _ in reasoned]
    quoted = [len(quotes(reasoning)) for reasoning, _ in reasoned]
    missing = [len(missing_quotes(reasoning, text, MIN_QUOTE)) for reasoning, text in reasoned]
    exist = [[rule in known for rule in found] for found in rules]
    return Faithfulness(
        with_reasoning=_counted(
            [row.reasoning is not None for row, _, _ in asked], "no reasoning was asked for"
        ),
        cites_a_rule=_counted([any(e) for e in exist], _NO_REASONING),
        without_invented_rule=_counted([all(e) for e in exist], _NO_REASONING),
        without_invented_quote=_counted([m == 0 for m in missing], _NO_REASONING),
        rules_that_exist=_counted([e for found in exist for e in found], "no rule is cited"),
        quotes_that_occur=_of(sum(quoted) - sum(missing), sum(quoted), "nothing is quoted"),
        **_labels(asked),
    )


_NO_REASONING = "no reasoning can be read"


def _labels(asked: Sequence[tuple[ScoredExample, str, int | None]]) -> dict[str, Counted]:
    stated = [(row, d) for row, _, d in asked if row.emitted_label is not None]
    scored = [row for row, _ in stated if row.probability is not None]
    return {
        "label_is_more_probable": _counted(
            [row.emitted_label == predict(row.probability, EVEN_ODDS) for row in scored], _NO_LABEL
        ),
        "label_is_decision": _counted(
            [row.emitted_label == d for row, d in stated if d is not None], _NO_LABEL
        ),
        "label_is_gold": _counted([row.emitted_label == row.gold for row, _ in stated], _NO_LABEL),
    }


_NO_LABEL = "no answer states a label that can be compared"


def _counted(hits: Sequence[bool], why: str) -> Counted:
    return _of(sum(hits), len(hits), why)


def _of(count: int, total: int, why: str) -> Counted:
    return Counted(count, total, proportion(count, total, why))
