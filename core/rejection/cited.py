"""Quotations and citations of rules in a rationale."""

from __future__ import annotations

import functools
import html
import re
import unicodedata

from core.rulebook import natural_key

# Straight and curly double quotes and guillemets; an apostrophe quotes nothing.
_QUOTED = re.compile(r'"([^"]*)"|[“„‟]([^“”„‟]*)[”“‟]|«([^»]*)»')
_ELLIPSIS = re.compile(r"[\[(]?(?:\.{3,}|…)[\])]?")
_ALIKE = str.maketrans(
    {**dict.fromkeys("’‘‚‛´`", "'"), **dict.fromkeys("“”„‟", '"'), **dict.fromkeys("‐‑‒–—―−", "-")}
)
_INVISIBLE = re.compile(
    "[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufe00-\ufe0f\ufeff]"
)
"""Characters without width: soft hyphens, joiners, marks of direction, variation selectors."""
_EDGES = " .,;:"
_CACHED = 8
"""Several rules ask the same of one answer, one after another."""


def quotes(reasoning: str) -> list[str]:
    """Return the quoted spans, without their quotation marks."""
    return [next(g for g in m.groups() if g is not None) for m in _QUOTED.finditer(reasoning)]


@functools.lru_cache(maxsize=_CACHED)
def without_quotes(reasoning: str) -> str:
    """Return the rationale's own words."""
    return _QUOTED.sub(" ", reasoning)


@functools.lru_cache(maxsize=_CACHED)
def plain(text: str) -> str:
    """Return the one form in which texts are compared: in rejection, in evaluations and in rewards.

    Entities are resolved, typographic quotes and dashes made plain, characters normalized (NFKC) and caseless
    (Unicode 3.13, Default Caseless Matching), characters without width dropped, and spaces single.
    """
    text = unicodedata.normalize("NFKC", html.unescape(text).translate(_ALIKE))
    text = unicodedata.normalize("NFKC", text.casefold())
    return " ".join(_INVISIBLE.sub("", text).split())


def checkable(quote: str, min_chars: int) -> bool:
    """Return whether a quotation is long enough to be searched for."""
    return len(plain(quote).strip(_EDGES)) >= min_chars


def missing_quotes(reasoning: str, text: str, min_chars: int) -> list[str]:
    """Return the quoted spans that are not in `text`; parts between ellipses are searched for separately.

    Parts shorter than `min_chars` are not searched for; punctuation at a part's edges may be the
    rationale's own.
    """
    searched, missing = plain(text), []
    for quote in quotes(reasoning):
        parts = (plain(part).strip(_EDGES) for part in _ELLIPSIS.split(quote))
        if plain(quote) in searched or all(part in searched for part in parts if len(part) >= min_chars):
            continue
        missing.append(quote)
    return missing


def cited(reasoning: str, known: tuple[str, ...]) -> list[str]:
    """Return the ids that the rationale's own words cite, known or not, in order of appearance.

    An id is a whole token that looks like one of `known`: the same letters, then a number. R1, [R1] and
    (R1, R2) cite; words quoted from the text cite nothing. A range cites its ends and the ids of `known`
    between them: R1-R3, R1 to R3, R1 through R3, and with any dash the short R1-3 and R1a-c.
    """
    if (token := _token(known)) is None:
        return []
    words, at, ids = without_quotes(reasoning), 0, list[str]()
    while found := token.search(words, at):
        first, at = found.group(), found.end()
        ids.append(first)
        while (end := _range_end(words, at, first, token)) is not None:
            last, at = end
            ids += [*_between(first, last, known), last]
            first = last
    return ids


def _range_end(words: str, at: int, first: str, token: re.Pattern[str]) -> tuple[str, int] | None:
    """Return the id at which a range that began with `first` ends, and where its words end."""
    # The token does not match after a hyphen, which here is the range's own.
    end = re.compile(token.pattern.removeprefix(_NOT_WITHIN))
    if (joined := _JOIN.match(words, at)) and (found := end.match(words, joined.end())):
        return found.group(), found.end()
    if not (short := _SHORT.match(words, at)):
        return None
    # R1-3 is R3 and R1a-c is R1c, if that comes after the first.
    if short.group(1).isdigit():
        stem = first.rstrip("abcdefghijklmnopqrstuvwxyz").rstrip("0123456789")
    elif first[-1].isalpha():
        stem = first[:-1]
    else:
        return None
    last = stem + short.group(1)
    return (last, short.end()) if natural_key(first) < natural_key(last) else None


def _between(first: str, last: str, known: tuple[str, ...]) -> list[str]:
    """Return the known ids inside a range, in its direction; none if the ends have different letters."""
    if _letters(first) != _letters(last):
        return []
    low, high = sorted((natural_key(first), natural_key(last)))
    inside = [k for k in known if _letters(k) == _letters(first) and low < natural_key(k) < high]
    return sorted(inside, key=natural_key, reverse=natural_key(first) > natural_key(last))


def _letters(rule_id: str) -> str:
    return re.split(r"\d", rule_id, maxsplit=1)[0]


_NOT_WITHIN = r"(?<![\w-])"
_JOIN = re.compile(
    r"[\])}]*(?:[^\S\n]*[-‐‑‒–—―−~][^\S\n]*|\.{2,3}|…|\s+(?:up\s+)?(?:to|till|until|through|thru)\s+)[\[({]*"
)
"""What joins the ends of a range, with brackets around either."""
_SHORT = re.compile(r"[-‐‑‒–—−]((?<!\s)\d{1,3}|[a-z])(?![\w%.]\w|[\w%])")
"""The rest of a range whose end is only a number or a letter: no space, unlike the dash of a sentence."""


@functools.lru_cache(maxsize=16)
def _token(known: tuple[str, ...]) -> re.Pattern[str] | None:
    """Return the pattern of ids with the letters of the known ones; None if there are none."""
    letters = sorted({m.group() for k in known if (m := re.match(r"[A-Za-z]+-?", k))}, reverse=True)
    if not letters:
        return None
    begins = "|".join(map(re.escape, letters))
    return re.compile(rf"{_NOT_WITHIN}(?:{begins})\d+(?:\.\d+)*[a-z]?(?!\w)")
