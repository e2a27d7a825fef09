"""All that a sweep's report says. Values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.report.inputs import Compared as OnRows
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


def scorer_of(on: OnRows, arm: Finished) -> Mapping[str, Any]:
    """What was found of an arm on some rows."""
    found: Mapping[str, Any] = on.analysis["scorers"][arm.arm.name]
    return found
