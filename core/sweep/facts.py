"""All that a sweep's report says. Values only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.evaluation.analysis import ScorerAnalysis
from core.report.data import ComparisonData as OnRows
from core.sweep.arms import Sweep
from core.sweep.comparing import Compared
from core.sweep.finished import Finished, Left


@dataclass(frozen=True, slots=True)
class SweepReport:
    """All that is said. `on_val` and `on_test` are what is compared; either may be missing."""

    sweep: Sweep
    generated_at: str
    finished: Sequence[Finished]
    left: Sequence[Left]
    compared: Compared | None
    on_val: OnRows | None
    on_test: OnRows | None

    @property
    def recommended(self) -> Finished | None:
        """The arm that val recommends."""
        return None if self.compared is None else self.compared.recommended


def scorer_of(on: OnRows, arm: Finished) -> ScorerAnalysis:
    """Return the results of an arm on some rows."""
    return on.analysis.scorers[arm.arm.name]
