"""JSON answers, whole, fenced or inside other text; cut and broken ones told apart."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

# Objects tried inside a text; real answers hold one, and hostile ones should not cost minutes.
_MOST_OBJECTS = 50
_FENCE = re.compile(r"\A```[A-Za-z0-9_-]*\s*")
_OBJECT = re.compile(r"\{\s*\"")
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
    """A JSON object's answer: every value that stands under the name, in order."""

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
    read as such.
    """
    whole = _load(text)
    if whole is not None:
        return _found("json", [whole])
    fenced = text.startswith("```") and text.endswith("```")
    whole = _load(_FENCE.sub("", text[:-3])) if fenced else None
    return _found("json_fenced", [whole]) if whole is not None else None


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
    try:
        value = _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, _Object) else None


def _answers(text: str) -> list[_Placed]:
    found: list[_Placed] = []
    at = 0
    for _ in range(_MOST_OBJECTS):
        begin = _OBJECT.search(text, at)
        if begin is None:
            break
        try:
            value, at = _DECODER.raw_decode(text, begin.start())
        except (ValueError, RecursionError):
            at = begin.start() + 1
            continue
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
