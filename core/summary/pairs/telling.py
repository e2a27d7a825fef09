"""The comparison as lines for a terminal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from core.config.measure import METRICS
from core.summary.pairs.changes import Changes, of_outcome
from core.summary.pairs.pairing import LeftOut, Outcome, Pair, Paired

SHOWN = 10
_WIDTH = 160
"""Characters of a text that are shown."""
_MEANING = {
    "fixed": "A wrong, B right",
    "broken": "A right, B wrong",
    "both_wrong": "both wrong",
    "both_right": "both right",
}


def lines(paired: Paired, found: Changes) -> Iterator[str]:
    """What is different about the data first, then the numbers, the changed texts, what is left out."""
    if warning := _data(paired):
        yield warning
    yield f"A is run {printable(paired.a.run)}, B is run {printable(paired.b.run)}"
    yield f"{len(paired.pairs):,} texts of {paired.a.split} in both, with the same gold label"
    for outcome, count in found.counts.items():
        yield f"  {_title(outcome):<26}{count:>8,}"
    for name, (a, b) in found.metrics.items():
        yield f"  {METRICS.get(name).title:<10}A {_number(a)}  B {_number(b)}"
    yield found.verdict
    if found.comparison is not None:
        yield found.comparison.differences["macro_f1"].verdict
        yield from [found.comparison.note] if found.comparison.note else []
    for outcome in ("fixed", "broken"):
        yield from _texts(paired, outcome)
    yield from _left_out(paired.left_out)


def printable(text: str) -> str:
    """On one line, without what would steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def _data(paired: Paired) -> str | None:
    if paired.same_data:
        return None
    a, b = paired.a.dataset, paired.b.dataset
    if a is None or b is None:
        who = " and ".join(name for name, digest in (("A", a), ("B", b)) if digest is None)
        return f"Whether both runs used the same split of the data is not known: {who} does not say"
    return (
        f"The runs used different splits of the data (dataset fingerprint {a[:12]} against {b[:12]}): "
        "a text of one's test may have been in the other's train, and only what both have is compared"
    )


def _texts(paired: Paired, outcome: Outcome) -> Iterator[str]:
    found = of_outcome(paired.pairs, outcome)
    if not found:
        return
    many = f", the first {SHOWN} of {len(found):,}" if len(found) > SHOWN else ""
    yield ""
    yield f"{_title(outcome)}{many}:"
    for pair in found[:SHOWN]:
        yield f"  {_judged(pair)}  {_short(pair.a.text)}"


def _judged(pair: Pair) -> str:
    a, b = (
        f"{name} {each.predicted} (P {_number(each.probability)})"
        for name, each in (("A", pair.a), ("B", pair.b))
    )
    return f"{printable(pair.a.example_id)}  gold {pair.a.gold}  {a}  {b}"


def _left_out(left_out: Sequence[LeftOut]) -> Iterator[str]:
    by_reason: dict[str, list[str]] = defaultdict(list)
    for each in left_out:
        by_reason[each.why].append(each.example_id)
    if by_reason:
        yield ""
        yield "Left out:"
    for why, ids in by_reason.items():
        more = f" and {len(ids) - SHOWN:,} more" if len(ids) > SHOWN else ""
        yield f"  {len(ids):,}: {why} ({', '.join(map(printable, ids[:SHOWN]))}{more})"


def _title(outcome: Outcome) -> str:
    meaning = _MEANING[outcome]
    return meaning if outcome.startswith("both") else f"{outcome} ({meaning})"


def _short(text: str) -> str:
    shown = " ".join(printable(text).split())
    return shown if len(shown) <= _WIDTH else f"{shown[: _WIDTH - 1]}…"


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
