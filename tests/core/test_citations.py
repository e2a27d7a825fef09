"""Quotations are found in any typography, citations as whole ids."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.rulebook import cited, missing_quotes, quotes

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
def test_quotations_are_found_in_any_typography(reasoning: str) -> None:
    assert missing_quotes(reasoning, TEXT, 3) == []


@pytest.mark.parametrize(("reasoning", "missing"), ABSENT)
def test_quotations_that_are_not_in_the_text_are_reported(reasoning: str, missing: list[str]) -> None:
    assert missing_quotes(reasoning, TEXT, 3) == missing


@given(st.text().filter(lambda t: not set(t) & set('"“”„‟')))
def test_any_text_contains_its_own_quotation(text: str) -> None:
    assert quotes(f'It says "{text}".') == [text]
    assert missing_quotes(f'It says "{text}".', f"x {text} y", 1) == []


IDS = ("R1", "R2", "R10", "S1.2", "V-3a")


@pytest.mark.parametrize(
    ("reasoning", "found"),
    [
        ("so [R1]", ["R1"]),
        ("R1.", ["R1"]),
        ("(R1, R2)", ["R1", "R2"]),
        ("R1/R2 and R1-R2", ["R1", "R2", "R1", "R2"]),
        ("R10 is not R", ["R10"]),
        ("under R11", ["R11"]),
        ("S1.2, V-3a; S9", ["S1.2", "V-3a", "S9"]),
        ("XR1 R1x2 aR1 r1 R_1 R 1", []),
        ('the words "R7 unit" are the text\'s', []),
        ("no rule", []),
    ],
)
def test_citation_is_a_whole_id_outside_quotations(reasoning: str, found: list[str]) -> None:
    assert cited(reasoning, IDS) == found


def test_without_ids_nothing_is_cited() -> None:
    assert cited("R1", ()) == []


RANGES = ("R1", "R2", "R3", "R4", "R10", "S1.2", "S1.3", "S1.4", "S2.1", "V-3a", "V-3b", "V-3c", "V-5")
THREE = ["R1", "R2", "R3"]


@pytest.mark.parametrize(
    ("reasoning", "found"),
    [
        ("R1-R3", THREE),
        ("R1\u2013R3 apply", THREE),
        ("R1 \u2014 R3", THREE),
        ("R1\u2011R3", THREE),
        ("R1\u2212R3", THREE),
        ("R1 to R3", THREE),
        ("R1 through R3", THREE),
        ("from R1 up to R3", THREE),
        ("R1 thru\nR3", THREE),
        ("[R1-R3]", THREE),
        ("[R1]-[R3]", THREE),
        ("(R1) to (R3)", THREE),
        ("R1..R3", THREE),
        ("R1\u2026R3", THREE),
        ("R1-3", THREE),
        ("R1\u20133.", THREE),
        ("R3-R1", ["R3", "R2", "R1"]),
        ("R1-R2-R4", ["R1", "R2", "R3", "R4"]),
        ("R3-R10", ["R3", "R4", "R10"]),
        ("R3-10, and R1", ["R3", "R4", "R10", "R1"]),
        ("S1.2-S1.4", ["S1.2", "S1.3", "S1.4"]),
        ("S1.2\u20134", ["S1.2", "S1.3", "S1.4"]),
        ("S1.4-S2.1", ["S1.4", "S2.1"]),
        ("V-3a-c", ["V-3a", "V-3b", "V-3c"]),
        ("V-3b-V-5", ["V-3b", "V-3c", "V-5"]),
    ],
)
def test_a_range_cites_every_rule_in_it(reasoning: str, found: list[str]) -> None:
    assert cited(reasoning, RANGES) == found


@pytest.mark.parametrize("reasoning", ["R1-R9", "R1\u2013R9", "R1 to R9", "R1-9"])
def test_a_range_to_a_rule_that_does_not_exist_cites_that_too(reasoning: str) -> None:
    assert cited(reasoning, RANGES) == ["R1", "R2", "R3", "R4", "R9"]


@pytest.mark.parametrize(
    ("reasoning", "found"),
    [
        ("R1-based", ["R1"]),
        ("R1 - 3 prizes are offered", ["R1"]),
        ("R1-2024", ["R1"]),
        ("R4-2", ["R4"]),
        ("R1-3% of all", ["R1"]),
        ("R1-S1.3", ["R1", "S1.3"]),
        ("- R1\n- R3", ["R1", "R3"]),
        ("Under R1... R3 too", ["R1", "R3"]),
        ("rules 1-3", []),
        ("non-R1", []),
    ],
)
def test_ids_that_only_look_like_a_range_are_cited_alone(reasoning: str, found: list[str]) -> None:
    assert cited(reasoning, RANGES) == found


ACCENTS = "Gagnez un caf\u00e9 gratuit \u00e0 No\u00ebl"


@pytest.mark.parametrize(
    ("text", "quote"),
    [
        (ACCENTS, unicodedata.normalize("NFD", ACCENTS)),
        (unicodedata.normalize("NFD", ACCENTS), ACCENTS),
        ("\uac00\ub098\ub2e4 \ubb34\ub8cc", unicodedata.normalize("NFD", "\ub098\ub2e4 \ubb34\ub8cc")),
        ("an o\ufb03cial o\ufb00er", "official offer"),
        ("win\u00a01\u202f000\u2009\u20ac now", "win 1 000 \u20ac now"),
        ("\uff37\uff29\uff2e \uff11\uff10", "WIN 10"),
        ("free\u200b gift\u00ad voucher", "free gift voucher"),
        ("I \u2764\ufe0f it", "I \u2764 it"),
        ("Don\u00b4t wait", "Don't wait"),
        ("call 0871\u2011555\u20106", "call 0871-555-6"),
        ("wait\u2026 now", "wait... now"),
        ("STRASSE", "stra\u00dfe"),
        ("\u0390\u03c2", "\u03b9\u0308\u0301\u03c3"),
        ("10\u00b2 m, \u00bd off", "102 m, 1\u20442 off"),
        ("x &eacute;t&eacute; y", "e\u0301te\u0301"),
    ],
)
def test_quotation_is_found_in_any_character_form(text: str, quote: str) -> None:
    assert missing_quotes(f'It says "{quote}".', text, 3) == []
    assert missing_quotes(f'It says "{quote} otherwise".', text, 3) == [f"{quote} otherwise"]


@given(
    st.text(st.characters(categories=["L", "M", "N", "Zs"])), st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"])
)
def test_quotation_is_found_in_every_unicode_normal_form(text: str, form: str) -> None:
    other = unicodedata.normalize(form, text)  # type: ignore[arg-type]  # one of its literals
    assert missing_quotes(f'It says "{other}".', f"x {text} y", 1) == []
    assert missing_quotes(f'It says "{text}".', f"x {other} y", 1) == []
