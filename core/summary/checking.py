"""Values out of files that anybody may have written: of the right type, or a sentence."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


class Unusable(ValueError):
    """A file that is not what its name says; the message says why."""


def parse(data: bytes) -> tuple[Any, bool]:
    """A JSON value, and whether it holds NaN or an infinity, which are no JSON and come as None."""
    odd: list[str] = []
    try:
        value = json.loads(data, parse_constant=odd.append)
    except (ValueError, RecursionError) as e:
        raise Unusable(f"not JSON ({' '.join(str(e).split())[:120]})") from e
    return value, bool(odd)


def mapping(value: Any, name: str) -> dict[str, Any]:
    """A mapping."""
    if not isinstance(value, dict):
        raise Unusable(f"{name} is {_kind(value)}, no object")
    return value


def required(of: Mapping[str, Any], name: str) -> Any:
    """A field that has to be there."""
    if name not in of:
        raise Unusable(f"it has no {name}")
    return of[name]


def number(value: Any, name: str) -> float | None:
    """A finite number, or None where there is none."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unusable(f"{name} is {_kind(value)}, no number")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise Unusable(f"{name} is no finite number")
    return found


def count(value: Any, name: str) -> int | None:
    """A whole number from 0, or None where there is none; 3.0 is one."""
    found = number(value, name)
    if found is None:
        return None
    if found < 0 or not found.is_integer():
        raise Unusable(f"{name} is {value}, no count")
    return int(found)


def text(value: Any, name: str) -> str | None:
    """A text, or None where there is none."""
    if value is not None and not isinstance(value, str):
        raise Unusable(f"{name} is {_kind(value)}, no text")
    return value


def _kind(value: Any) -> str:
    kinds = {type(None): "null", bool: "true or false", str: "a text", list: "a list", dict: "an object"}
    return kinds.get(type(value), "a number")
