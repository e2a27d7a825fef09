"""Faithfulness of the student's reasoning: the rules it cites, the words it quotes, the label it states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.evaluation.predictions import Predictions, at_or_above
from core.intervals import Interval, proportion
from core.rulebook import cited, missing_quotes, quotes

MIN_QUOTE = 3
"""Shorter parts of a quotation are not searched for, as in the rejection rule quote_not_in_text."""
_NO_REASONING = "no reasoning can be read"
_NO_LABEL = "no answer states a label that can be compared"


@dataclass(frozen=True, slots=True)
class CountedShare:
    """`count` of `total`, with Wilson's interval; rows of one reasoning are taken as independent."""

    count: int
    total: int
    share: Interval

    @staticmethod
    def of(hits: Sequence[bool], why: str) -> CountedShare:
        """Count the hits; `why` is the reason if there is nothing to count."""
        return CountedShare(sum(hits), len(hits), proportion(sum(hits), len(hits), why))


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """How many of the generated answers are faithful.

    `with_reasoning` have a reasoning that can be read; `cites_a_rule` cite one that exists, and
    `without_invented_rule` none that does not; `without_invented_quote` quote only words of the text.
    `rules_that_exist` and `quotes_that_occur` count the citations and quotations themselves.
    `label_is_more_probable`: the stated label is the one to which the model gave more probability, before
    calibration; `label_is_decision`: it is the label at the threshold; `label_is_gold`: it is right.
    """

    with_reasoning: CountedShare
    cites_a_rule: CountedShare
    without_invented_rule: CountedShare
    without_invented_quote: CountedShare
    rules_that_exist: CountedShare
    quotes_that_occur: CountedShare
    label_is_more_probable: CountedShare
    label_is_decision: CountedShare
    label_is_gold: CountedShare


def faithfulness(
    p: Predictions, texts: Sequence[str], decided: Sequence[int | None], known: tuple[str, ...]
) -> Faithfulness:
    """Return how faithful the generated answers are; rows without one are left out.

    `decided` is each row's label at its threshold, None where there is none; `known` the rulebook's ids.
    """
    asked = [i for i, generated in enumerate(p.generated) if generated.text is not None]
    reasonings = [(p.generated[i].reasoning, texts[i]) for i in asked]
    reasoned = [(reasoning, text) for reasoning, text in reasonings if reasoning is not None]
    exist = [[rule in known for rule in cited(reasoning, known)] for reasoning, _ in reasoned]
    occur = []
    for reasoning, text in reasoned:
        missing = missing_quotes(reasoning, text, MIN_QUOTE)
        occur.append([quote not in missing for quote in quotes(reasoning)])
    stated = [(i, label) for i in asked if (label := p.generated[i].label) is not None]
    probable = at_or_above(p.probability, 0.5).tolist()
    gold = p.positive.tolist()
    known_probability = [(i, label) for i, label in stated if not np.isnan(p.probability[i])]
    comparable = [(i, label) for i, label in stated if decided[i] is not None]
    return Faithfulness(
        with_reasoning=CountedShare.of([r is not None for r, _ in reasonings], "no reasoning was asked for"),
        cites_a_rule=CountedShare.of([any(e) for e in exist], _NO_REASONING),
        without_invented_rule=CountedShare.of([all(e) for e in exist], _NO_REASONING),
        without_invented_quote=CountedShare.of([all(o) for o in occur], _NO_REASONING),
        rules_that_exist=CountedShare.of([e for found in exist for e in found], "no rule is cited"),
        quotes_that_occur=CountedShare.of([o for found in occur for o in found], "nothing is quoted"),
        label_is_more_probable=CountedShare.of([y == probable[i] for i, y in known_probability], _NO_LABEL),
        label_is_decision=CountedShare.of([y == decided[i] for i, y in comparable], _NO_LABEL),
        label_is_gold=CountedShare.of([y == gold[i] for i, y in stated], _NO_LABEL),
    )
