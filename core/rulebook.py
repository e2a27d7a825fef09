"""The rulebook: a folder of rule files, joined to one text; and what a rationale cites of it and quotes."""

from __future__ import annotations

import functools
import html
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from core import locations
from core.config import RulesConfig
from core.errors import PromptError
from core.jsonio import digest

_ID = r"[A-Z][A-Za-z]{0,3}-?\d{1,3}(?:\.\d{1,3})*[a-z]?"
_FILE_ID = re.compile(rf"({_ID})(?=[\s_.-]|$)")
# Marks of lists, headings and emphasis may precede an id: "- R1:", "## R1", "**[R1]**".
_LINE_ID = re.compile(rf"[#>*\-\s]*[\[(*]*({_ID})[\])*]*(?=[\s:.)–—-]|$)")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule with the id by which a rationale cites it."""

    id: str
    file: str
    text: str


@dataclass(frozen=True, slots=True)
class Rulebook:
    """The policy as it is shown: `text` with a heading for each file, and the rules that have ids."""

    text: str
    rules: tuple[Rule, ...]
    files: tuple[str, ...]
    digest: str

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids that a rationale may cite, in the order of the text."""
        return tuple(rule.id for rule in self.rules)


def load_rulebook(config: RulesConfig) -> Rulebook:
    """Read the rule files of `config.dir`, in natural order of their names, without the empty ones.

    A file whose name begins with an id (R1_prizes.txt) is that rule; in any other file each line
    that begins with an id (`R1 Prizes: ...`) begins a rule. A file without ids is shown but cannot
    be cited. Raises PromptError for a rulebook without any text, and for an id that occurs twice.
    """
    folder = locations.absolute(config.dir, "rules.dir")
    texts = {path.name: text for path in _files(folder, config.glob) if (text := _read(path))}
    if not texts:
        raise PromptError(
            f"{folder}: every file that matches {config.glob!r} is empty; write the rules into them"
        )
    rules: list[Rule] = []
    for name, text in texts.items():
        lines = text.splitlines()
        starts = [(i, m.group(1)) for i, line in enumerate(lines) if (m := _LINE_ID.match(line))]
        own, inside = _FILE_ID.match(name), {rule_id for _, rule_id in starts}
        # A name such as V2_policy.txt over lines R1, R2, ... is a version and not the id of a rule.
        if own and (own.group(1) in inside or len(inside) < 2):
            rules.append(Rule(own.group(1), name, text))
            continue
        ends = [*(i for i, _ in starts), len(lines)][1:]
        for (start, rule_id), end in zip(starts, ends, strict=True):
            rules.append(Rule(rule_id, name, "\n".join(lines[start:end]).strip()))
    files: dict[str, str] = {}
    for rule in rules:
        if rule.id in files:
            where = " and ".join(dict.fromkeys((files[rule.id], rule.file)))
            raise PromptError(f"{folder}: the rule id {rule.id} occurs twice, in {where}; rename one")
        files[rule.id] = rule.file
    text = "\n\n".join(f"## {name}\n{body}" for name, body in texts.items())
    return Rulebook(text, tuple(rules), tuple(texts), digest(text))


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key of a name: the plain order, except that numbers count as numbers.

    >>> sorted(["R10", "R2", "R1"], key=natural_key)
    ['R1', 'R2', 'R10']
    """
    return tuple(
        (ord("0"), int(part), part) if part.isascii() and part.isdigit() else (ord(part), 0, "")
        for part in re.findall(r"[0-9]+|[^0-9]", name, re.DOTALL)
    )


def _files(folder: Path, glob: str) -> list[Path]:
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise PromptError(f"{folder} {what}; set rules.dir to the folder of your rule files")
    if found := [path for path in folder.glob(glob) if path.is_file()]:
        return sorted(found, key=lambda path: natural_key(path.name))
    inside = sorted(path.name for path in folder.iterdir() if path.is_dir() and any(path.glob(glob)))
    others = sorted(path.name for path in folder.iterdir() if path.is_file())[:3]
    if inside:
        remedy = f"its folders {', '.join(inside)} contain such files: set rules.dir to one of them"
    else:
        there = f"it contains {', '.join(others)}" if others else "it is empty"
        remedy = f"{there}: put rule files there or set rules.glob"
    raise PromptError(f"{folder}: no file matches {glob!r}; {remedy}")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError as e:
        raise PromptError(f"{path}: byte {e.start} is not UTF-8; save the file as UTF-8") from e
    except OSError as e:
        raise PromptError(f"{path} cannot be read: {e.strerror}; fix its permissions") from e


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
MIN_QUOTE = 3
"""Characters of the shortest part of a quotation that is searched for, unless a rule sets another number."""
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
            low, high = sorted((natural_key(first), natural_key(last)))
            alike = [k for k in known if _letters(k) == _letters(first) == _letters(last)]
            inside = sorted((k for k in alike if low < natural_key(k) < high), key=natural_key)
            ids += [*(inside if natural_key(first) == low else reversed(inside)), last]
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
