"""Numbers and lists as they are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from core.config.measure import METRICS
from core.evaluation.comparison import signed_end
from core.report.blocks import UNDEFINED, Cell

DIGITS = 3


def number(value: float | None, digits: int = DIGITS) -> str:
    """A metric, or a dash where it is undefined."""
    return UNDEFINED if value is None else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = DIGITS) -> str:
    """A difference with its sign; what is 0 to all digits shown has none."""
    if value is None:
        return UNDEFINED
    shown = f"{value:+.{digits}f}"
    return shown[1:] if float(shown) == 0 else shown


def count(value: float | None) -> str:
    """A whole number with thousands parted."""
    return UNDEFINED if value is None else f"{value:,.0f}"


def span(low: float | None, high: float | None, *, sign: bool = False) -> str:
    """An interval; empty where there is none. Signed ends have the digits that tell them from 0."""
    if low is None or high is None:
        return ""
    if sign:
        return " to ".join(signed(end) if end == 0 else signed_end(end) for end in (low, high))
    return f"{number(low)} to {number(high)}" if low < 0 else f"{number(low)}–{number(high)}"


def with_interval(interval: Mapping[str, Any], *, sign: bool = False) -> Cell:
    """A value with its interval, as core.evaluation.intervals writes it."""
    value = interval["value"]
    text = signed(value) if sign else number(value)
    return Cell(text, span(interval["low"], interval["high"], sign=sign))


def name_of(metric: str) -> str:
    """A metric as sentences call it."""
    name = "f1" if metric == "F1" else metric
    return METRICS.get(name).title if name in METRICS else metric.replace("_", " ")


def and_(items: Sequence[str]) -> str:
    """One, two and three."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def plural(n: int, noun: str) -> str:
    """One row, 1,000 rows."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def were(n: int, noun: str) -> str:
    """One row was, 1,000 rows were."""
    return f"{plural(n, noun)} {'was' if n == 1 else 'were'}"


def begins(sentence: str) -> str:
    """A sentence with its first letter large, names that are written small left alone."""
    return sentence if sentence.startswith("macro-F1") else sentence[:1].upper() + sentence[1:]


def grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """First parts by second part, in order: what has the same reason stands together."""
    out: dict[str, list[str]] = {}
    for name, reason in pairs:
        out.setdefault(reason, []).append(name)
    return out
