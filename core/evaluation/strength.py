"""How strongly a logistic regression is held back: the C of scikit-learn, chosen on val.

By log loss, the mean of -ln P(gold). It is a proper score, so it asks for probabilities that are right
and not only in the right order, it moves with every row, and it is a column of the table that the
baseline stands in. AUROC would be the student's own order of merit, but it says nothing of how far
apart the scores are, which is most of what C changes, and near its ceiling or with a few dozen
positives it turns on single pairs of rows or ties. Class weights are not among what is tried: they
move the intercept more than anything else, for which a threshold that is chosen on val makes up, and
worsen the probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from core.evaluation.metrics import compute
from core.evaluation.predictions import Predictions

GRID = (0.1, 1.0, 10.0, 100.0)
"""What is tried, the simplest model first: of equals the first wins."""
DEFAULT = 10.0
"""What is taken where val cannot tell."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One C and what it reaches on val; AUROC is told, and decides nothing."""

    C: float
    log_loss: float | None
    auroc: float | None


@dataclass(frozen=True, slots=True)
class Strength:
    """The C that was chosen, all that were tried, and why it is what it is."""

    C: float
    tried: tuple[Tried, ...]
    reason: str

    def to_json(self) -> dict[str, Any]:
        """What is written of the choice."""
        return {"grid": [asdict(one) for one in self.tried], "settings_reason": self.reason}


def undecided(labels: Sequence[int]) -> Strength | None:
    """The default, and why, where val cannot choose by its gold labels; None where it can."""
    if len(set(labels)) == 2:
        return None
    why = f"all {len(labels)} rows of val are {'positive' if labels[0] else 'negative'}" if labels else ""
    return Strength(DEFAULT, (), f"C {DEFAULT:g} by default: {why or 'val has no rows'}, so it cannot choose")


def choose_strength(on_val: Mapping[float, Predictions]) -> Strength:
    """The C with the smallest log loss, by what each scored on val; the same rows for each, of both classes.

    `on_val` has the simplest model first, and of equals the first wins.
    """
    measured = {c: compute(rows, threshold=None) for c, rows in on_val.items()}
    tried = tuple(Tried(c, m["log_loss"], m["auroc"]) for c, m in measured.items())
    best = min(tried, key=lambda one: one.log_loss if one.log_loss is not None else float("inf"))
    rows = len(next(iter(on_val.values())))
    among = ", ".join(f"{c:g}" for c in on_val)
    return Strength(best.C, tried, f"the smallest log loss on {rows} rows of val, of C {among}")
