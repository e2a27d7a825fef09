"""Numbers and lists as readers see them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from core.config.measure import METRICS
from core.evaluation.comparison import MetricDifference, signed_end
from core.intervals import Difference, Interval
from core.labels import BINARY
from core.report.document import UNDEFINED, Cell

DIGITS = 3
GOLD_LABELS = {code: f"gold {BINARY.title(label)}" for label, code in enumerate(BINARY.codes)}
"""How reports name the gold labels, by their codes in files."""


def number(value: float | None, digits: int = DIGITS) -> str:
    """Return a metric, or a dash if it is undefined."""
    return UNDEFINED if value is None else f"{value:.{digits}f}"


def signed(value: float | None) -> str:
    """Return a difference with its sign; a value that is 0 to all digits shown has none."""
    if value is None:
        return UNDEFINED
    shown = f"{value:+.{DIGITS}f}"
    return shown[1:] if float(shown) == 0 else shown


def count(value: float | None) -> str:
    """Return a whole number with thousands separators."""
    return UNDEFINED if value is None else f"{value:,.0f}"


def p_value(value: float | None) -> str:
    """Return a p-value with three decimals."""
    if value is None:
        return UNDEFINED
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def span(low: float | None, high: float | None, *, sign: bool = False) -> str:
    """Return an interval, empty if there is none. Signed ends have enough digits to differ from 0."""
    if low is None or high is None:
        return ""
    if sign:
        return " to ".join(signed(end) if end == 0 else signed_end(end) for end in (low, high))
    return f"{number(low)} to {number(high)}" if low < 0 else f"{number(low)}–{number(high)}"


def with_interval(of: Interval | Difference | MetricDifference) -> Cell:
    """Return a value with its interval; differences have a sign."""
    if isinstance(of, Interval):
        return Cell(number(of.value), span(of.low, of.high))
    return Cell(signed(of.value), span(of.low, of.high, sign=True))


def name_of(metric: str) -> str:
    """Return a metric's name as sentences have it."""
    name = "f1" if metric == "F1" else metric
    return METRICS.get(name).title if name in METRICS else metric.replace("_", " ")


def and_(items: Sequence[str]) -> str:
    """Return "one, two and three"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def plural(n: int, noun: str) -> str:
    """Return "1 row", "1,000 rows"."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def were(n: int, noun: str) -> str:
    """Return "1 row was", "1,000 rows were"."""
    return f"{plural(n, noun)} {'was' if n == 1 else 'were'}"


def begins(sentence: str) -> str:
    """Return a sentence with a capital first letter, except for names that are written small."""
    return sentence if sentence.startswith("macro-F1") else sentence[:1].upper() + sentence[1:]


def sentence(text: str) -> str:
    """Return a notice with a capital first letter and a full stop."""
    text = begins(text)
    return text if text.endswith((".", "!", "?")) else f"{text}."


def grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the first parts by their second part, in order: names that share a reason."""
    out: dict[str, list[str]] = {}
    for name, reason in pairs:
        out.setdefault(reason, []).append(name)
    return out
