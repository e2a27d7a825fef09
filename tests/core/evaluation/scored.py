"""Scored rows for tests of statistics: given by hand, drawn by hypothesis, or sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from core.evaluation.metrics import Metrics
from core.evaluation.predictions import Bools, Floats, Generated, Predictions

Scored = list[tuple[int, float | None]]

PROBABILITY = st.one_of(st.none(), st.floats(0, 1), st.integers(0, 8).map(lambda k: k / 8))
ROWS: st.SearchStrategy[Scored] = st.lists(st.tuples(st.integers(0, 1), PROBABILITY), min_size=4, max_size=40)
NOTHING = Generated()


@dataclass(frozen=True, slots=True)
class Row:
    """One row of predictions."""

    id: str
    gold: int
    probability: float | None
    off_label_mass: float = 0.0
    generated: Generated = NOTHING
    truncated_tokens: int = 0
    error: str | None = None


def predictions(rows: Sequence[Row]) -> Predictions:
    return Predictions.of(
        [row.id for row in rows],
        [np.nan if row.probability is None else row.probability for row in rows],
        gold=[row.gold for row in rows],
        off_label_mass=[row.off_label_mass for row in rows],
        errors=[row.error for row in rows],
        generated=[row.generated for row in rows],
        truncated_tokens=[row.truncated_tokens for row in rows],
    )


def as_rows(scored: Scored) -> Predictions:
    return predictions([Row(f"r{i}", gold, p) for i, (gold, p) in enumerate(scored)])


def counts(m: Metrics) -> tuple[float | None, ...]:
    """True and false positives, false and true negatives."""
    return m["tp"], m["fp"], m["fn"], m["tn"]


def has_both(scored: Scored) -> bool:
    return len({gold for gold, _ in scored}) == 2


@dataclass(frozen=True, slots=True)
class Sample:
    """Random rows: gold labels, and probabilities whose means differ by `apart` between the classes."""

    positive: Bools
    probability: Floats

    def rows(self) -> Predictions:
        return as_rows(list(zip(self.positive.astype(int).tolist(), self.probability.tolist(), strict=True)))


def draw(n: int, *, seed: int, share: float = 0.3, apart: float = 0.3, steps: int = 0) -> Sample:
    rng = np.random.default_rng(seed)
    positive = np.zeros(n, dtype=np.bool_)
    positive[: max(1, round(share * n))] = True
    rng.shuffle(positive)
    p = np.clip(rng.normal(0.35 + apart * positive, 0.2), 0, 1)
    return Sample(positive, np.round(p * steps) / steps if steps else p)


def groups_of(n: int, size: int) -> Sequence[str | None]:
    """Rows in groups of `size`, every seventh row on its own."""
    return [None if i % 7 == 0 else f"g{i // size}" for i in range(n)]
