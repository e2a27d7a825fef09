"""Intervals of metrics, wherever a metrics file or an analysis holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from core.summary.checking import mapping, number, required, text


@dataclass(frozen=True, slots=True)
class Interval:
    """Both ends; None is undefined."""

    low: float | None
    high: float | None


UNKNOWN = Interval(None, None)
Mode = Literal["reasoning", "label_only"]
PLACES = ("analysis.json", "student_phase/analysis.json")
"""Where in a run's folder an analysis may be."""
SCORERS: Mapping[Mode, str] = {"reasoning": "student", "label_only": "label_only"}
"""The names of the student's modes in it."""


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


def of_analysis(value: Any) -> tuple[str | None, dict[Mode, dict[str, Interval]]]:
    """The split that an analysis is of, and the student's intervals by mode.

    Raises Unusable where it has another form.
    """
    content = mapping(value, "it")
    scorers = mapping(required(content, "scorers"), "scorers")
    found: dict[Mode, dict[str, Interval]] = {}
    for mode, name in SCORERS.items():
        if name in scorers:
            found[mode] = intervals(mapping(scorers[name], f"scorers.{name}").get("intervals"))
    return text(required(content, "split"), "split"), found


def _end(ends: Mapping[str, Any], end: str, name: str) -> float | None:
    return number(ends.get(end), f"intervals.{name}.{end}")
