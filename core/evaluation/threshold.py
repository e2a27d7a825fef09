"""The decision threshold that every checkpoint is measured at: where macro-F1 is largest on val.

Other objectives, and how candidates are made, stand in core.evaluation.objectives and candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.config.measure import ThresholdConfig
from core.evaluation.objectives import DEFAULT, choose_by
from core.evaluation.predictions import Bools, Floats, Predictions

__all__ = ["DEFAULT", "RULE", "Threshold", "choose", "choose_from"]

RULE = "val_max_macro_f1"
"""The name in files of the rule by which every checkpoint is measured on val."""


def rule(config: ThresholdConfig) -> str:
    """The name in files of an objective: val_max_macro_f1, val_min_cost_5, val_recall_at_precision_0.9."""
    if config.objective in ("macro_f1", "f1"):
        return f"val_max_{config.objective}"
    return f"val_{'min_' if config.objective == 'cost' else ''}{config.objective}_{config.number:g}"


@dataclass(frozen=True, slots=True)
class Threshold:
    """A threshold, what it reaches on the rows it was chosen on, and why it is what it is."""

    value: float
    macro_f1: float | None
    accuracy: float | None
    candidates: int
    reason: str


def choose(p: Predictions) -> Threshold:
    """Return the threshold that maximizes macro-F1; see `choose_from`."""
    return choose_from(p.positive, p.probability)


def choose_from(positive: Bools, probability: Floats) -> Threshold:
    """The threshold that maximises macro-F1; ties go to accuracy, then to the nearest to 0.5.

    `probability` is NaN where a row has none: it is predicted 0 at any threshold. Of two equally
    near thresholds the smaller wins. Without rows, with one class only, or without any probability
    it is 0.5 and the reason says so.
    """
    found = choose_by(positive, probability, ThresholdConfig())
    assert found.value is not None  # macro-F1 is reached everywhere
    return Threshold(found.value, found.reached, found.accuracy, found.candidates, found.reason)
