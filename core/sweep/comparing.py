"""The arms on the same rows: a recommendation by val, and test for all, each against the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.config.measure import METRICS
from core.evaluation.analysis import Analysis, analyse
from core.evaluation.metrics import lower_is_better
from core.records import SplitName
from core.store.objects import Store
from core.sweep.finished import Finished

FALLBACK = "macro_f1"


@dataclass(frozen=True, slots=True)
class Compared:
    """`val` has the recommended arm first, `test` the arms in the sweep's order.

    `recommended` is None where no arm has a value on val; `test` is None where an arm has no rows of it.
    """

    metric: str
    recommended: Finished | None
    val: Analysis
    test: Analysis | None


def compare_arms(store: Store, arms: Sequence[Finished], metric: str) -> Compared:
    """All arms, which share their rows. Controls are compared and never recommended."""
    by = metric if metric in METRICS else FALLBACK
    val = _analysed(store, arms, "val")
    best = _best(arms, val, by)
    if best is not None and best is not arms[0]:
        # Once more with it in front: it is what the others are to be held against on val.
        val = _analysed(store, [best, *(arm for arm in arms if arm is not best)], "val")
    has_test = all("test" in arm.rows for arm in arms)
    return Compared(by, best, val, _analysed(store, arms, "test") if has_test else None)


def _analysed(store: Store, arms: Sequence[Finished], name: SplitName) -> Analysis:
    scored = [arm.scored(store, name) for arm in arms]
    seed = arms[0].arm.resolved.config.seed
    return analyse(name, arms[0].examples(store, name), scored, seed=seed)


def _best(arms: Sequence[Finished], val: Analysis, metric: str) -> Finished | None:
    """The best value on val; of equals the first."""
    measured = {arm.arm.name: _value(val, arm, metric) for arm in arms if not arm.arm.is_control}
    known = {name: value for name, value in measured.items() if value is not None}
    if not known:
        return None
    pick = min if lower_is_better(metric) else max
    name = pick(known, key=lambda name: known[name])
    return next(arm for arm in arms if arm.arm.name == name)


def _value(analysis: Analysis, arm: Finished, metric: str) -> float | None:
    return analysis.scorers[arm.arm.name].intervals[metric].value
