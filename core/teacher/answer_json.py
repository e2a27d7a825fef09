"""JSON answers, whole, fenced or inside other text; cut and broken ones are distinguished."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

# Objects tried inside a text; real answers hold one, and hostile ones should not cost minutes.
_MOST_OBJECTS = 50
_MOST_LENIENT = 5
_FENCE = re.compile(r"\A```[A-Za-z0-9_-]*\s*")
_OBJECT = re.compile(r"\{\s*\"")
_TRAILING_COMMA = re.compile(r",\s*[}\]]")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|["\[\]{},]', re.DOTALL)
_ANSWER = re.compile(r"\{\s*\"(?:reasoning|label)\"", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Found:
    """Label values and reasoning as they stand in an output, not yet checked; or an error."""

    source: str
    labels: tuple[object, ...] = ()
    reasoning: object = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class _Object:
    """A JSON object's answer: every value under the name, in order."""

    labels: tuple[object, ...]
    reasonings: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class _Placed:
    """An object and where in a text it begins and ends."""

    value: _Object
    begin: int
    end: int


def find_whole_json(text: str) -> Found | None:
    """The answer of a text that is one JSON object, or one in a code fence; None for other texts.

    Key names may be in upper case, other keys are passed over, line breaks inside strings are
    read as such, and trailing commas are left out.
    """
    whole = _load(text)
    if whole is not None:
        return _found("json", [whole])
    fenced = text.startswith("```") and text.endswith("```")
    whole = _load(_FENCE.sub("", text[:-3])) if fenced else None
    return _found("json_fenced", [whole]) if whole is not None else None


def find_json_at_end(text: str) -> Found | None:
    """The answer of the one JSON object with which `text` ends, fenced or not; None for other texts.

    Objects before it are drafts, since what a model thought ends in what it decided.
    """
    text = text.rstrip().removesuffix("```").rstrip()
    if not text.endswith("}"):
        return None
    last = [placed for placed in _answers(text) if placed.end == len(text)]
    return _found("reasoning_json", [last[0].value]) if last else None


def find_json_inside(text: str) -> Found | None:
    """The answer of the JSON objects inside `text`; None where none holds a label or reasoning.

    Several objects must agree on the label; the first one's reasoning counts.
    """
    inside = [placed.value for placed in _answers(text)]
    return _found("json_inside", inside) if inside else None


def answer_spans(text: str) -> list[tuple[int, int]]:
    """Where in `text` the answers' objects stand, from the brace to after its twin: whatever else
    their strings hold is their reasoning's."""
    return [(placed.begin, placed.end) for placed in _answers(text)]


def answer_begin(text: str) -> int | None:
    """Where in `text` an answer's object begins, whole or not."""
    begin = _ANSWER.search(text)
    return begin.start() if begin else None


def broken_json(text: str) -> Found | None:
    """The error `truncated` or `broken_json` where an answer's object begins but cannot be read."""
    text = _FENCE.sub("", text)
    start = answer_begin(text)
    if start is None:
        if not text.startswith("{"):
            return None
        start = 0
    ends = text.rstrip().removesuffix("```").rstrip().endswith("}")
    broken = ends or _balanced(text, start)
    return Found("none", error="broken_json" if broken else "truncated")


def _pairs(pairs: list[tuple[str, Any]]) -> _Object:
    """Keeps both of two equal keys, where a dict would keep the last without a word."""
    return _Object(
        tuple(v for k, v in pairs if k.casefold() == "label"),
        tuple(v for k, v in pairs if k.casefold() == "reasoning"),
    )


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, strict=False)


def _load(text: str) -> _Object | None:
    """The object that is the whole text, also as JSON inside a JSON string, or with trailing commas."""
    try:
        value = _DECODER.decode(text)
        value = _DECODER.decode(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        placed = _lenient(text, 0) if text.startswith("{") else None
        return placed.value if placed is not None and placed.end == len(text.rstrip()) else None
    return value if isinstance(value, _Object) else None


def _lenient(text: str, begin: int) -> _Placed | None:
    """The object at `begin` without its trailing commas; None where there are none, or it is still broken."""
    if _TRAILING_COMMA.search(text, begin) is None:
        return None
    end, commas = _scan(text, begin)
    if not end or not commas:
        return None
    bounds = [begin, *(place for comma in commas for place in (comma, comma + 1)), end]
    kept = "".join(text[a:b] for a, b in zip(bounds[::2], bounds[1::2], strict=True))
    try:
        value = _DECODER.decode(kept)
    except (ValueError, RecursionError):
        return None
    return _Placed(value, begin, end) if isinstance(value, _Object) else None


def _scan(text: str, begin: int) -> tuple[int, list[int]]:
    """Where the object at `begin` ends (0: nowhere), and its trailing commas outside of strings."""
    depth, comma, commas = 0, -1, list[int]()
    for token in _TOKEN.finditer(text, begin):
        kind = token.group()[0]
        if token.group() == '"':  # a string without an end
            return 0, []
        if kind in "]}" and comma >= 0 and not text[comma + 1 : token.start()].strip():
            commas.append(comma)
        comma = token.start() if kind == "," else -1
        depth += (kind in "[{") - (kind in "]}")
        if depth == 0:
            return token.end(), commas
    return 0, []


def _answers(text: str) -> list[_Placed]:
    found: list[_Placed] = []
    at = lenient = 0
    for _ in range(_MOST_OBJECTS):
        begin = _OBJECT.search(text, at)
        if begin is None:
            break
        try:
            value, at = _DECODER.raw_decode(text, begin.start())
        except (ValueError, RecursionError):
            placed = None
            if lenient < _MOST_LENIENT and _ANSWER.match(text, begin.start()):
                lenient, placed = lenient + 1, _lenient(text, begin.start())
            if placed is None:
                at = begin.start() + 1
                continue
            value, at = placed.value, placed.end
        if value.labels or value.reasonings:
            found.append(_Placed(value, begin.start(), at))
    return found


def _found(source: str, objects: list[_Object]) -> Found:
    labels = tuple(label for o in objects for label in o.labels)
    if not labels:
        return Found(source, error="no_label")
    first = next(o for o in objects if o.labels)
    if len(set(map(repr, first.reasonings))) > 1:
        return Found(source, error="several_reasonings")
    return Found(source, labels, first.reasonings[0] if first.reasonings else None)


def _balanced(text: str, start: int) -> bool:
    depth, quoted, escaped = 0, False, False
    for ch in text[start:]:
        if quoted:
            quoted = escaped or ch != '"'
            escaped = ch == "\\" and not escaped
        elif ch == '"':
            quoted = True
        elif ch in "{}":
            depth += 1 if ch == "{" else -1
            if depth == 0:
                return True
    return False
