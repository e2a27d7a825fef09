"""What a rationale quotes and which rules it cites."""

from __future__ import annotations

import functools
import html
import re

# Straight and curly double quotes and guillemets; an apostrophe quotes nothing.
_QUOTED = re.compile(r'"([^"]*)"|[“„‟]([^“”„‟]*)[”“‟]|«([^»]*)»')
_ELLIPSIS = re.compile(r"[\[(]?(?:\.{3,}|…)[\])]?")
_ALIKE = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "„": '"', "‟": '"', "–": "-", "—": "-"})
_EDGES = " .,;:"
# Several rules ask the same of one answer, one after another.
_KEPT = 8


def quotes(reasoning: str) -> list[str]:
    """The quoted spans, as they stand between their quotation marks."""
    return [next(g for g in m.groups() if g is not None) for m in _QUOTED.finditer(reasoning)]


@functools.lru_cache(maxsize=_KEPT)
def without_quotes(reasoning: str) -> str:
    """What the rationale says in its own words."""
    return _QUOTED.sub(" ", reasoning)


@functools.lru_cache(maxsize=_KEPT)
def plain(text: str) -> str:
    """One form for comparing: entities resolved, lower case, single spaces, plain quotes and dashes."""
    return " ".join(html.unescape(text).translate(_ALIKE).casefold().split())


def missing_quotes(reasoning: str, text: str, min_chars: int) -> list[str]:
    """The quoted spans that are not in `text`, each part between ellipses looked for by itself.

    Parts shorter than `min_chars` are not looked for; punctuation at a part's edges may be the
    rationale's own.
    """
    searched = plain(text)
    return [q for q in quotes(reasoning) if not _occurs(q, searched, min_chars)]


def _occurs(quote: str, searched: str, min_chars: int) -> bool:
    if plain(quote) in searched:
        return True
    parts = (plain(part).strip(_EDGES) for part in _ELLIPSIS.split(quote))
    return all(part in searched for part in parts if len(part) >= min_chars)


def cited(reasoning: str, known: tuple[str, ...]) -> list[str]:
    """The ids that the rationale's own words cite, known or not, in order of appearance.

    An id is a whole token that looks like one of `known`: the same letters, then a number. R1, [R1]
    and (R1, R2) cite; R10 does not cite R1, and words quoted from the text cite nothing.
    """
    token = _token(known)
    return token.findall(without_quotes(reasoning)) if token else []


@functools.lru_cache(maxsize=16)
def _token(known: tuple[str, ...]) -> re.Pattern[str] | None:
    letters = sorted({m.group() for k in known if (m := re.match(r"[A-Za-z]+-?", k))}, reverse=True)
    if not letters:
        return None
    begins = "|".join(map(re.escape, letters))
    return re.compile(rf"(?<![\w-])(?:{begins})\d+(?:\.\d+)*[a-z]?(?!\w)")
