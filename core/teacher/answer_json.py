"""JSON answers, whole, fenced or inside other text; cut and broken ones told apart."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

# Objects tried inside a text; real answers hold one, and hostile ones should not cost minutes.
_MOST_OBJECTS = 50
_FENCE = re.compile(r"\A```[A-Za-z0-9_-]*\s*\n?(.*?)\n?\s*```\Z", re.DOTALL)
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


def find_whole_json(text: str) -> Found | None:
    """The answer of a text that is one JSON object, or one in a code fence; None for other texts.

    Key names may be in upper case, other keys are passed over, line breaks inside strings are
    read as such.
    """
    whole = _load(text)
    if whole is not None:
        return _found("json", [whole])
    fenced = _FENCE.match(text)
    whole = _load(fenced.group(1)) if fenced else None
    return _found("json_fenced", [whole]) if whole is not None else None


def find_json_inside(text: str) -> Found | None:
    """The answer of the JSON objects inside `text`; None where none holds a label or reasoning.

    Several objects must agree on the label; the first one's reasoning counts.
    """
    inside = [o for o in _objects(text) if o.labels or o.reasonings]
    return _found("json_inside", inside) if inside else None


def broken_json(text: str) -> Found | None:
    """The error `truncated` or `broken_json` where an answer's object begins but cannot be read."""
    text = re.sub(r"\A```[A-Za-z0-9_-]*\s*", "", text)
    begin = _ANSWER.search(text)
    start = begin.start() if begin else 0
    if begin is None and not text.startswith("{"):
        return None
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


def _objects(text: str) -> list[_Object]:
    found: list[_Object] = []
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
        if isinstance(value, _Object):
            found.append(value)
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
