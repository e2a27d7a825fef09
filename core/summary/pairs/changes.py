"""What changed from one run to another: counts, differences, and whether they could be luck."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.evaluation import counted
from core.evaluation.columns import Floats
from core.evaluation.counted import Counts
from core.summary.pairs.pairing import OUTCOMES, Outcome, Pair, Paired
from core.summary.pairs.predictions import Predicted

LEVEL = 0.05
_METRICS: Mapping[str, Callable[[Counts], Floats]] = {
    "accuracy": counted.accuracy,
    "macro_f1": counted.macro_f1,
}


@dataclass(frozen=True, slots=True)
class Difference:
    """A metric on the texts that both have. None is undefined."""

    a: float | None
    b: float | None

    @property
    def difference(self) -> float | None:
        """B less A."""
        return None if self.a is None or self.b is None else self.b - self.a


@dataclass(frozen=True, slots=True)
class Changes:
    """`p` is that of McNemar's exact test: of no difference in accuracy."""

    counts: Mapping[Outcome, int]
    metrics: Mapping[str, Difference]
    p: float

    @property
    def verdict(self) -> str:
        """In words. What the test does not show is not said to be there."""
        if not any(self.counts.values()):
            return "nothing to compare: no text is in both"
        test = f"McNemar's exact test, p = {self.p:.3g}"
        if self.p >= LEVEL:
            return f"no difference shown ({test})"
        return f"{'B' if self.counts['fixed'] > self.counts['broken'] else 'A'} is right more often ({test})"


def changes(paired: Paired) -> Changes:
    """From the pairs alone."""
    found = Counter(pair.outcome for pair in paired.pairs)
    counts = {outcome: found[outcome] for outcome in OUTCOMES}
    of_a, of_b = _counts([p.a for p in paired.pairs]), _counts([p.b for p in paired.pairs])
    metrics = {
        name: Difference(_value(metric(of_a)), _value(metric(of_b))) for name, metric in _METRICS.items()
    }
    return Changes(counts, metrics, mcnemar(counts["fixed"], counts["broken"]))


def mcnemar(fixed: int, broken: int) -> float:
    """Two-sided p of the exact test (McNemar 1947; the binomial form): each change a fair coin's fall."""
    if fixed + broken == 0:
        return 1.0
    from scipy.stats import binomtest  # a second that help need not wait for

    return float(binomtest(fixed, fixed + broken).pvalue)


def to_json(paired: Paired, found: Changes) -> dict[str, Any]:
    """`comparison.json`."""
    return {
        "a": paired.a.run,
        "b": paired.b.run,
        "split": paired.a.split,
        "dataset_fingerprint": {"a": paired.a.dataset, "b": paired.b.dataset, "same": paired.same_data},
        "n": len(paired.pairs),
        **{str(outcome): n for outcome, n in found.counts.items()},
        "mcnemar_p": found.p,
        "verdict": found.verdict,
        "metrics": {
            name: {"a": d.a, "b": d.b, "difference": d.difference} for name, d in found.metrics.items()
        },
        "left_out": dict(Counter(each.why for each in paired.left_out)),
    }


def of_outcome(pairs: Sequence[Pair], outcome: Outcome) -> list[Pair]:
    """The pairs with one outcome, in their order."""
    return [pair for pair in pairs if pair.outcome == outcome]


def _counts(rows: Sequence[Predicted]) -> Counts:
    found = Counter((row.predicted, row.gold) for row in rows)
    tp, fp = found[1, 1], found[1, 0]
    return Counts.of(tp, fp, tp + found[0, 1], fp + found[0, 0])


def _value(found: Floats) -> float | None:
    value = float(found)
    return None if math.isnan(value) else value
