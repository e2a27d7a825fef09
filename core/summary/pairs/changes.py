"""What changed from one run to another: counts, differences, and whether they could be luck."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from core.evaluation.bootstrap import Judged, bootstrap
from core.evaluation.columns import NO_PROBABILITY
from core.evaluation.comparison import Comparison, better, compare, signed_end, with_verdict
from core.evaluation.paired import exact_interval
from core.summary.pairs.pairing import OUTCOMES, Outcome, Pair, Paired
from core.summary.pairs.predictions import Predicted

METRICS = ("accuracy", "macro_f1")


@dataclass(frozen=True, slots=True)
class Changes:
    """`metrics` are A's and B's, None where undefined; `comparison` is of B against A, None without texts."""

    counts: Mapping[Outcome, int]
    metrics: Mapping[str, tuple[float | None, float | None]]
    comparison: Comparison | None

    @property
    def p(self) -> float | None:
        """Of McNemar's exact test: of no difference in accuracy."""
        exact = None if self.comparison is None else self.comparison.mcnemar
        return None if exact is None else exact.p

    @property
    def verdict(self) -> str:
        """On accuracy, in words. What the test does not show is not said to be there."""
        if self.comparison is None or self.p is None:
            return "nothing to compare: no text is in both"
        d = self.comparison.differences["accuracy"]
        assert d.value is not None, "rows that were paired have an accuracy"
        ends = ""
        if d.low is not None and d.high is not None:
            ends = f"95 % interval {signed_end(d.low)} to {signed_end(d.high)}; "
        decides = "" if self.comparison.note is None else ", takes grouped rows as independent"
        numbers = f"{signed_end(d.value)} ({ends}McNemar's exact test{decides}, p = {self.p:.3g})"
        if not better(d):
            return f"no difference shown between B and A in accuracy: {numbers}"
        return f"{'B' if d.value > 0 else 'A'} is right more often: {numbers}"


def changes(paired: Paired) -> Changes:
    """From the pairs; rows of a group are drawn together."""
    pairs = paired.pairs
    outcomes = Counter(pair.outcome for pair in pairs)
    counts = {outcome: outcomes[outcome] for outcome in OUTCOMES}
    if not pairs:
        return Changes(counts, dict.fromkeys(METRICS, (None, None)), None)
    positive = np.array([pair.a.gold == 1 for pair in pairs], dtype=np.bool_)
    judged = [_judged([pair.b for pair in pairs]), _judged([pair.a for pair in pairs])]
    found = bootstrap(positive, judged, [paired.a.groups.get(pair.a.example_id) for pair in pairs])
    (comparison,) = compare(positive, ("B", "A"), judged, found)
    if not found.clustered:
        comparison = _by_exact_test(comparison)
    metrics = {name: (_point(found.point(1, name)), _point(found.point(0, name))) for name in METRICS}
    return Changes(counts, metrics, comparison)


def _by_exact_test(comparison: Comparison) -> Comparison:
    """Decide accuracy by McNemar's exact test, whose p-value stands next to it, and not by the bootstrap."""
    test, d = comparison.mcnemar, comparison.differences["accuracy"]
    assert test is not None, "both runs decide"
    low, high = exact_interval(test)
    exact = replace(d, low=low, high=high, p=test.p, p_holm=test.p, p_adjusted=test.p, untested=None)
    differences = {**comparison.differences, "accuracy": with_verdict(exact, comparison)}
    return replace(comparison, differences=differences)


def to_json(paired: Paired, found: Changes) -> dict[str, Any]:
    """`comparison.json`; its differences are B's value less A's."""
    return {
        "a": paired.a.run,
        "b": paired.b.run,
        "split": paired.a.split,
        "dataset_fingerprint": {"a": paired.a.dataset, "b": paired.b.dataset, "same": paired.same_data},
        "n": len(paired.pairs),
        **{str(outcome): n for outcome, n in found.counts.items()},
        "verdict": found.verdict,
        "metrics": {name: {"a": a, "b": b} for name, (a, b) in found.metrics.items()},
        "comparison": None if found.comparison is None else found.comparison.to_json(),
        "left_out": dict(Counter(each.why for each in paired.left_out)),
    }


def of_outcome(pairs: Sequence[Pair], outcome: Outcome) -> list[Pair]:
    """The pairs with one outcome, in their order."""
    return [pair for pair in pairs if pair.outcome == outcome]


def _judged(rows: Sequence[Predicted]) -> Judged:
    ranking = [NO_PROBABILITY if row.probability is None else row.probability for row in rows]
    predicted = np.array([row.predicted == 1 for row in rows], dtype=np.bool_)
    return Judged(np.array(ranking, dtype=np.float64), predicted)


def _point(found: float) -> float | None:
    return None if np.isnan(found) else found
