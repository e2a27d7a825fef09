"""Intervals of metrics, wherever a metrics file or an analysis holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.summary.checking import mapping, number


@dataclass(frozen=True, slots=True)
class Interval:
    """Both ends; None is undefined."""

    low: float | None
    high: float | None


UNKNOWN = Interval(None, None)


def intervals(value: Any) -> dict[str, Interval]:
    """By metric's name, from `{metric: {"low": ..., "high": ...}}`; empty where there is nothing.

    Raises Unusable where it has another form.
    """
    if value is None:
        return {}
    out = {}
    for name, found in mapping(value, "intervals").items():
        if found is not None:
            ends = mapping(found, f"intervals.{name}")
            column = "F1" if name == "f1" else name
            out[column] = Interval(_end(ends, "low", name), _end(ends, "high", name))
    return out


def _end(ends: Mapping[str, Any], end: str, name: str) -> float | None:
    return number(ends.get(end), f"intervals.{name}.{end}")
