"""Quotations are found as people write them, citations as whole ids."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.rejection.cited import cited, missing_quotes, quotes

TEXT = 'Don’t miss out!  You have WON a\n£1,000 prize &amp; more... Call "now" 0871 – txt STOP'

PRESENT = [
    '"You have WON"',
    '"you have won a £1,000"',
    "“prize & more”",
    "„more... call”",
    "«Call»",
    '"prize &amp; more"',
    '"don\'t miss out"',
    '"You have ... prize"',
    '"You have… STOP"',
    '"You have [...] prize"',
    '"You have WON," it says',
    '"0871 - txt"',
    '"ab" is too short to be looked for',
    "it's the sender's 'free money' in single quotes",
    "no quotation at all",
    'an unpaired " mark',
]
ABSENT = [
    ('"You have lost"', ["You have lost"]),
    ('"You have WON" and “free money”', ["free money"]),
    ('"You have ... lost"', ["You have ... lost"]),
    ('"a" "bcd"', ["bcd"]),
]


@pytest.mark.parametrize("reasoning", PRESENT)
def test_words_of_the_text_are_found_whatever_their_dress(reasoning: str) -> None:
    assert missing_quotes(reasoning, TEXT, 3) == []


@pytest.mark.parametrize(("reasoning", "missing"), ABSENT)
def test_words_that_the_text_does_not_hold_are_missed(reasoning: str, missing: list[str]) -> None:
    assert missing_quotes(reasoning, TEXT, 3) == missing


@given(st.text().filter(lambda t: not set(t) & set('"“”„‟')))
def test_any_text_quoted_whole_is_found_in_itself(text: str) -> None:
    assert quotes(f'It says "{text}".') == [text]
    assert missing_quotes(f'It says "{text}".', f"x {text} y", 1) == []


IDS = ("R1", "R2", "R10", "S1.2", "V-3a")


@pytest.mark.parametrize(
    ("reasoning", "found"),
    [
        ("so [R1]", ["R1"]),
        ("R1.", ["R1"]),
        ("(R1, R2)", ["R1", "R2"]),
        ("R1/R2 and R1-R2", ["R1", "R2", "R1"]),
        ("R10 is not R", ["R10"]),
        ("under R11", ["R11"]),
        ("S1.2, V-3a; S9", ["S1.2", "V-3a", "S9"]),
        ("XR1 R1x2 aR1 r1 R_1 R 1", []),
        ('the words "R7 unit" are the text\'s', []),
        ("no rule", []),
    ],
)
def test_a_citation_is_a_whole_id_outside_quotations(reasoning: str, found: list[str]) -> None:
    assert cited(reasoning, IDS) == found


def test_without_ids_nothing_is_cited() -> None:
    assert cited("R1", ()) == []
