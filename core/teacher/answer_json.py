"""JSON answers, whole, fenced or inside other text; truncated and broken ones are distinguished."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any

# Objects tried inside a text; real answers contain one, and hostile ones should not cost minutes.
_MOST_OBJECTS = 50
_MOST_LENIENT = 5
_FENCE = re.compile(r"\A```[A-Za-z0-9_-]*\s*")
_OBJECT = re.compile(r"\{\s*\"")
_TRAILING_COMMA = re.compile(r",\s*[}\]]")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|["\]{},]', re.DOTALL)
_ANSWER = re.compile(r"\{\s*\"(?:reasoning|label)\"", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FoundAnswer:
    """Label values and reasoning as an output contains them, not yet checked; or an error."""

    source: str
    labels: tuple[object, ...] = ()
    reasoning: object = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class _Object:
    """A JSON object's answer, every value under the name in order, and where in a text it begins and ends."""

    labels: tuple[object, ...]
    reasonings: tuple[object, ...]
    begin: int = 0
    end: int = 0


def find_whole_json(text: str) -> FoundAnswer | None:
    """Return the answer of a text that is one JSON object, or one in a code fence; None for other texts.

    Key names may be in upper case, other keys are ignored, line breaks inside strings are accepted,
    and trailing commas are removed.
    """
    whole = _load(text)
    if whole is not None:
        return _found("json", [whole])
    fenced = text.startswith("```") and text.endswith("```")
    whole = _load(_FENCE.sub("", text[:-3])) if fenced else None
    return _found("json_fenced", [whole]) if whole is not None else None


def find_json_at_end(text: str) -> FoundAnswer | None:
    """Return the answer of the JSON object, fenced or not, with which `text` ends; others are drafts."""
    text = text.rstrip().removesuffix("```").rstrip()
    if not text.endswith("}"):
        return None
    last = [found for found in _answers(text) if found.end == len(text)]
    return _found("reasoning_json", last[:1]) if last else None


def find_json_inside(text: str) -> FoundAnswer | None:
    """Return the answer of the JSON objects inside `text`; None if none has a label or reasoning.

    Several objects must agree on the label; the first one's reasoning counts.
    """
    inside = _answers(text)
    return _found("json_inside", inside) if inside else None


def answer_spans(text: str) -> list[tuple[int, int]]:
    """Return where in `text` the answers' objects begin and end; tags in their strings are reasoning."""
    return [(found.begin, found.end) for found in _answers(text)]


def answer_begin(text: str) -> int | None:
    """Return where in `text` an answer's object begins, complete or not."""
    begin = _ANSWER.search(text)
    return begin.start() if begin else None


def broken_json(text: str) -> FoundAnswer | None:
    """Return the error `truncated` or `broken_json` if an answer's object begins but cannot be read."""
    text = _FENCE.sub("", text)
    start = answer_begin(text)
    if start is None:
        if not text.startswith("{"):
            return None
        start = 0
    ends = text.rstrip().removesuffix("```").rstrip().endswith("}")
    broken = ends or _scan(text, start)[0] > 0
    return FoundAnswer("none", error="broken_json" if broken else "truncated")


def _pairs(pairs: list[tuple[str, Any]]) -> _Object:
    """Keep both of two equal keys; a dict would silently keep the last."""
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
        found = _lenient(text, 0) if text.startswith("{") else None
        return found if found is not None and found.end == len(text.rstrip()) else None
    return value if isinstance(value, _Object) else None


def _lenient(text: str, begin: int) -> _Object | None:
    """The object at `begin` without its trailing commas; None without any, or if it is still broken."""
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
    return replace(value, begin=begin, end=end) if isinstance(value, _Object) else None


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
        depth += (kind == "{") - (kind == "}")
        if depth == 0:
            return token.end(), commas
    return 0, []


def _answers(text: str) -> list[_Object]:
    found: list[_Object] = []
    at = lenient = 0
    for _ in range(_MOST_OBJECTS):
        begin = _OBJECT.search(text, at)
        if begin is None:
            break
        try:
            value, at = _DECODER.raw_decode(text, begin.start())
        except (ValueError, RecursionError):
            value = None
            if lenient < _MOST_LENIENT and _ANSWER.match(text, begin.start()):
                lenient, value = lenient + 1, _lenient(text, begin.start())
            at = begin.start() + 1 if value is None else value.end
        if value is not None and (value.labels or value.reasonings):
            found.append(replace(value, begin=begin.start(), end=at))
    return found


def _found(source: str, objects: list[_Object]) -> FoundAnswer:
    labels = tuple(label for o in objects for label in o.labels)
    if not labels:
        return FoundAnswer(source, error="no_label")
    first = next(o for o in objects if o.labels)
    if len(set(map(repr, first.reasonings))) > 1:
        return FoundAnswer(source, error="several_reasonings")
    return FoundAnswer(source, labels, first.reasonings[0] if first.reasonings else None)
