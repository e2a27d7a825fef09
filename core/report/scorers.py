"""What analysis.json holds of each scorer, and of the first against each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from core.evaluation.comparison import MetricDifference, better
from core.evaluation.metrics import lower_is_better
from core.report.blocks import Outcome
from core.report.inputs import Compared

Facts = Mapping[str, Any]


def scorers(report: Compared) -> list[Facts]:
    """All of them, the student first."""
    return list(report.analysis["scorers"].values())


def student(report: Compared) -> Facts:
    """The first scorer, which the others are compared with."""
    found: Facts = next(iter(report.analysis["scorers"].values()))
    return found


def with_probabilities(report: Compared) -> list[Facts]:
    """Those that say how sure they are; a teacher gives labels only."""
    return [s for s in scorers(report) if "curves" in s]


def comparisons(report: Compared) -> Iterator[tuple[Facts, Facts]]:
    """Each other scorer with the student's comparison with it."""
    return zip(scorers(report)[1:], report.analysis["comparisons"], strict=True)


def outcome(comparison: Facts, metric: str) -> Outcome:
    """Whether the student is shown to be better in `metric`, by the rule of core.evaluation.comparison."""
    d = MetricDifference(**comparison["differences"][metric])
    if d.value is None:
        return "open"
    if not better(d):
        return "even"
    return "better" if (d.value > 0) != lower_is_better(metric) else "worse"
