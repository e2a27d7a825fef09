"""What changed from run A to run B: counts, tests, and the output of `understudy compare`."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from core.config.measure import METRICS
from core.evaluation.bootstrap import Judged, bootstrap
from core.evaluation.comparison import Comparison, better, compare, signed_end, with_verdict
from core.evaluation.predictions import NO_PROBABILITY
from core.evaluation.significance import exact_interval
from core.jsonio import Record
from core.records import SplitName
from core.summary.pairing import OUTCOMES, Outcome, Pair, Paired, Predicted
from core.summary.tables import save

ACCURACY, MACRO_F1 = COMPARED = ("accuracy", "macro_f1")
LISTED = 10
"""Texts that are listed per outcome."""
_TEXT_WIDTH = 160
_MEANING: Mapping[Outcome, str] = {
    "fixed": "fixed (A wrong, B right)",
    "broken": "broken (A right, B wrong)",
    "both_wrong": "both wrong",
    "both_right": "both right",
}
_COLUMNS = (
    *("outcome", "example_id", "gold", "a_predicted", "a_probability", "b_predicted", "b_probability"),
    *("text", "a_reasoning", "b_reasoning"),
)


@dataclass(frozen=True, slots=True)
class Changes:
    """`metrics` are A's and B's, None if undefined; `comparison` is of B with A, None without texts."""

    counts: Mapping[Outcome, int]
    metrics: Mapping[str, tuple[float | None, float | None]]
    comparison: Comparison | None

    @property
    def p(self) -> float | None:
        """The p-value of McNemar's exact test of equal accuracy."""
        test = None if self.comparison is None else self.comparison.mcnemar
        return None if test is None else test.p

    @property
    def verdict(self) -> str:
        """The conclusion about accuracy: a difference is claimed only if the test shows it."""
        if self.comparison is None or self.p is None:
            return "nothing to compare: no text is in both"
        d = self.comparison.differences[ACCURACY]
        assert d.value is not None, "paired rows have an accuracy"
        ends = ""
        if d.low is not None and d.high is not None:
            ends = f"95 % interval {signed_end(d.low)} to {signed_end(d.high)}; "
        grouped = "" if self.comparison.note is None else ", takes grouped rows as independent"
        numbers = f"{signed_end(d.value)} ({ends}McNemar's exact test{grouped}, p = {self.p:.3g})"
        if not better(d):
            return f"no difference shown between B and A in accuracy: {numbers}"
        return f"{'B' if d.value > 0 else 'A'} is right more often: {numbers}"


def changes(paired: Paired) -> Changes:
    """Compare B with A on their pairs; rows of a group are resampled together."""
    pairs = paired.pairs
    outcomes = Counter(pair.outcome for pair in pairs)
    counts = {outcome: outcomes[outcome] for outcome in OUTCOMES}
    if not pairs:
        return Changes(counts, dict.fromkeys(COMPARED, (None, None)), None)
    positive = np.array([pair.a.gold_label == 1 for pair in pairs], dtype=np.bool_)
    judged = [_judged([pair.b for pair in pairs]), _judged([pair.a for pair in pairs])]
    found = bootstrap(positive, judged, [paired.a.groups.get(pair.a.example_id) for pair in pairs])
    (comparison,) = compare(positive, ("B", "A"), judged, found)
    if not found.clustered:
        comparison = _with_exact_test(comparison)
    metrics = {name: (_defined(found.point(1, name)), _defined(found.point(0, name))) for name in COMPARED}
    return Changes(counts, metrics, comparison)


def _with_exact_test(comparison: Comparison) -> Comparison:
    """Decide accuracy by McNemar's exact test, whose p-value is printed, instead of the bootstrap."""
    test, d = comparison.mcnemar, comparison.differences[ACCURACY]
    assert test is not None, "both runs have predictions"
    low, high = exact_interval(test)
    exact = replace(d, low=low, high=high, p=test.p, p_holm=test.p, p_adjusted=test.p, untested=None)
    differences = {**comparison.differences, ACCURACY: with_verdict(exact, comparison.a, comparison.b)}
    return replace(comparison, differences=differences)


def _judged(rows: Sequence[Predicted]) -> Judged:
    ranking = [NO_PROBABILITY if row.probability is None else row.probability for row in rows]
    predicted = np.array([row.predicted == 1 for row in rows], dtype=np.bool_)
    return Judged(np.array(ranking, dtype=np.float64), predicted)


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else value


def write(folder: Path, paired: Paired, found: Changes) -> list[Path]:
    """Write comparison.json, changed.csv with all changed texts and left_out.csv. Raises StoreError."""
    content = json.dumps(ComparisonFile.of(paired, found).to_json(), indent=2, ensure_ascii=False)
    changed = (
        _row(pair)
        for outcome in ("fixed", "broken", "both_wrong")
        for pair in paired.pairs
        if pair.outcome == outcome
    )
    left_out = ((each.example_id, each.why) for each in paired.left_out)
    return [
        save(content + "\n", folder / "comparison.json"),
        save(_csv(_COLUMNS, changed), folder / "changed.csv"),
        save(_csv(("example_id", "why"), left_out), folder / "left_out.csv"),
    ]


def _row(pair: Pair) -> tuple[object, ...]:
    a, b = pair.a, pair.b
    decisions = (a.gold_label, a.predicted, a.probability, b.predicted, b.probability)
    return (pair.outcome, a.example_id, *decisions, a.text, a.reasoning, b.reasoning)


class SameDataset(Record):
    """The dataset fingerprints of both runs, and whether they are equal; None if one is not recorded."""

    a: str | None
    b: str | None
    same: bool | None


class Both(Record):
    """A metric of A and of B; None is undefined."""

    a: float | None
    b: float | None


class ComparisonFile(Record):
    """`comparison.json`; differences are B's value minus A's. `left_out` counts texts by reason."""

    a: str
    b: str
    split: SplitName
    dataset_fingerprint: SameDataset
    n: int
    fixed: int
    broken: int
    both_wrong: int
    both_right: int
    verdict: str
    metrics: dict[str, Both]
    comparison: Comparison | None
    left_out: dict[str, int]

    @classmethod
    def of(cls, paired: Paired, found: Changes) -> ComparisonFile:
        """Return what is written about a comparison."""
        a, b = paired.a, paired.b
        return cls(
            a=a.run,
            b=b.run,
            split=a.split,
            dataset_fingerprint=SameDataset(a=a.dataset, b=b.dataset, same=paired.same_data),
            n=len(paired.pairs),
            **{str(outcome): n for outcome, n in found.counts.items()},
            verdict=found.verdict,
            metrics={name: Both(a=a, b=b) for name, (a, b) in found.metrics.items()},
            comparison=found.comparison,
            left_out=Counter(each.why for each in paired.left_out),
        )


def _csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return out.getvalue()


def lines(paired: Paired, found: Changes) -> Iterator[str]:
    """The comparison for a terminal: whether the data differ, numbers, changed texts, what is left out."""
    if warning := _data_warning(paired):
        yield warning
    yield f"A is run {printable(paired.a.run)}, B is run {printable(paired.b.run)}"
    yield f"{len(paired.pairs):,} texts of {paired.a.split} in both, with the same gold label"
    for outcome, count in found.counts.items():
        yield f"  {_MEANING[outcome]:<26}{count:>8,}"
    for name, (a, b) in found.metrics.items():
        yield f"  {METRICS.get(name).title:<10}A {_number(a)}  B {_number(b)}"
    yield found.verdict
    if found.comparison is not None:
        yield found.comparison.differences[MACRO_F1].verdict
        yield from [found.comparison.note] if found.comparison.note else []
    yield from _texts(paired, "fixed")
    yield from _texts(paired, "broken")
    yield from _left_out(paired)


def printable(text: str) -> str:
    """One line without terminal control characters."""
    return "".join(c if c.isprintable() else " " for c in text)


def _data_warning(paired: Paired) -> str | None:
    if paired.same_data:
        return None
    a, b = paired.a.dataset, paired.b.dataset
    if a is None or b is None:
        who = " and ".join(name for name, digest in (("A", a), ("B", b)) if digest is None)
        return f"It is not known whether both runs used the same split of the data: {who} does not record it"
    return (
        f"The runs used different splits of the data (dataset fingerprints {a[:12]} and {b[:12]}): "
        "test texts of one run may be train texts of the other; only texts that both have are compared"
    )


def _texts(paired: Paired, outcome: Outcome) -> Iterator[str]:
    found = [pair for pair in paired.pairs if pair.outcome == outcome]
    if not found:
        return
    yield ""
    yield f"{_MEANING[outcome]}{f', the first {LISTED} of {len(found):,}' if len(found) > LISTED else ''}:"
    for pair in found[:LISTED]:
        yield f"  {_decisions(pair)}  {_short(pair.a.text)}"


def _decisions(pair: Pair) -> str:
    a, b = (
        f"{name} {each.predicted} (P {_number(each.probability)})"
        for name, each in (("A", pair.a), ("B", pair.b))
    )
    return f"{printable(pair.a.example_id)}  gold {pair.a.gold_label}  {a}  {b}"


def _left_out(paired: Paired) -> Iterator[str]:
    by_reason: dict[str, list[str]] = defaultdict(list)
    for each in paired.left_out:
        by_reason[each.why].append(each.example_id)
    if by_reason:
        yield ""
        yield "Left out:"
    for why, ids in by_reason.items():
        more = f" and {len(ids) - LISTED:,} more" if len(ids) > LISTED else ""
        yield f"  {len(ids):,}: {why} ({', '.join(map(printable, ids[:LISTED]))}{more})"


def _short(text: str) -> str:
    shown = " ".join(printable(text).split())
    return shown if len(shown) <= _TEXT_WIDTH else f"{shown[: _TEXT_WIDTH - 1]}…"


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
