"""Predictions of one scorer for some texts, as arrays: the input of every metric, curve and decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core import jsonio
from core.errors import StageError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

SCORES = "scores.jsonl"
"""The file of the export and evaluate stages with a split's predictions."""
NO_PROBABILITY = 0.5
"""The value in ranking, log loss and Brier score of a row without a probability."""
MOST_OFF_LABEL = 0.5
"""With more probability off the labels, the model prefers to write something else: the row is invalid."""


@dataclass(frozen=True, slots=True)
class Generated:
    """A model's completion of a text; fields are None if not asked for or not reached."""

    text: str | None = None
    reasoning: str | None = None
    label: int | None = None
    finish: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """A scorer's predictions for some texts, in order; gold labels may be joined later.

    `probabilities` is (texts, labels), normalized over the labels' surface forms; a row is NaN if the model
    never reached the place of the label. `off_label_mass` is the probability of anything but a label there.
    `errors` are the reasons why a server gave no score: such a row is in no metric. `bounded` marks
    rows with a probability that is an upper bound, since the server did not list it. Raises StageError for
    impossible numbers.
    """

    ids: tuple[str, ...]
    probabilities: Floats
    off_label_mass: Floats
    gold: Ints | None
    errors: tuple[str | None, ...]
    generated: tuple[Generated, ...]
    truncated_tokens: Ints
    bounded: Bools

    @staticmethod
    def of(
        ids: Sequence[str],
        positive: ArrayLike,
        *,
        gold: ArrayLike | None = None,
        off_label_mass: ArrayLike = 0.0,
        errors: Sequence[str | None] | None = None,
        generated: Sequence[Generated] | None = None,
        truncated_tokens: ArrayLike = 0,
        bounded: ArrayLike = False,
    ) -> Predictions:
        """Return the predictions of two labels from the probabilities of the positive one; NaN if none."""
        n = len(ids)
        p = np.asarray(positive, dtype=np.float64).reshape(n)
        return Predictions(
            ids=tuple(ids),
            probabilities=np.stack([1.0 - p, p], axis=1),
            off_label_mass=np.broadcast_to(np.asarray(off_label_mass, np.float64), n),
            gold=None if gold is None else np.asarray(gold, dtype=np.int64).reshape(n),
            errors=(None,) * n if errors is None else tuple(errors),
            generated=(Generated(),) * n if generated is None else tuple(generated),
            truncated_tokens=np.broadcast_to(np.asarray(truncated_tokens, np.int64), n),
            bounded=np.broadcast_to(np.asarray(bounded, np.bool_), n),
        )

    def __post_init__(self) -> None:
        p, off_label = self.probability, self.off_label_mass
        for i in np.flatnonzero((p < 0) | (p > 1)):
            raise StageError(f"scored row {self.ids[i]}: probability {p[i]} is not in [0, 1]")
        for i in np.flatnonzero(~np.isfinite(off_label)):
            raise StageError(f"scored row {self.ids[i]}: off-label mass {off_label[i]} is not a number")
        gold = np.zeros(0) if self.gold is None else self.gold
        for i in np.flatnonzero(~np.isin(gold, (0, 1))):
            raise StageError(f"scored row {self.ids[i]}: gold label {gold[i]} is neither 0 nor 1")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def positive(self) -> Bools:
        """Whether the gold label is the positive one. Raises ValueError without gold labels."""
        if self.gold is None:
            raise ValueError("the gold labels of these predictions were not joined")
        return np.asarray(self.gold == 1)

    @property
    def probability(self) -> Floats:
        """The probability of the positive label; NaN if there is none."""
        return self.probabilities[:, 1]

    @property
    def ranking(self) -> Floats:
        """The probability of the positive label, NO_PROBABILITY if there is none."""
        p = self.probability
        return np.where(np.isnan(p), NO_PROBABILITY, p)

    @property
    def invalid(self) -> Bools:
        """Rows that reached no label, or where the model prefers to write something else."""
        return np.isnan(self.probability) | (self.off_label_mass > MOST_OFF_LABEL)

    @property
    def failed(self) -> Bools:
        """Rows that a server failed on."""
        return np.array([error is not None for error in self.errors], dtype=np.bool_)

    def take(self, rows: ArrayLike) -> Predictions:
        """Return the rows of a mask or of indices, in that order."""
        at = np.asarray(rows)
        at = np.flatnonzero(at) if at.dtype == np.bool_ else at.astype(np.int64)

        def taken(column: Any) -> Any:
            if isinstance(column, tuple):
                return tuple(column[i] for i in at)
            return None if column is None else column[at]

        return Predictions(**{f.name: taken(getattr(self, f.name)) for f in fields(self)})

    def without_failed(self) -> Predictions:
        return self.take(~self.failed)

    def with_gold(self, gold: Sequence[int]) -> Predictions:
        return replace(self, gold=np.asarray(gold, dtype=np.int64).reshape(len(self)))

    def with_probability(self, positive: Floats) -> Predictions:
        return replace(self, probabilities=np.stack([1.0 - positive, positive], axis=1))

    def with_generated(self, other: Predictions) -> Predictions:
        """Return the predictions with the completions of `other` for some of the same texts."""
        found = dict(zip(other.ids, other.generated, strict=True))
        known = zip(self.ids, self.generated, strict=True)
        return replace(self, generated=tuple(found.get(name, generated) for name, generated in known))

    def indices(self) -> dict[str, int]:
        """Return the row of each id; the last one of a repeated id."""
        return {name: i for i, name in enumerate(self.ids)}

    def write(self, path: Path) -> None:
        """Write one JSON object per row. Gold labels must have been joined."""
        columns = {
            "example_id": self.ids,
            "gold": self.positive.astype(int).tolist(),
            "probability": [optional(p) for p in self.probability],
            "outside": self.off_label_mass.tolist(),
            "valid": (~self.invalid).tolist(),
            "reasoning": [g.reasoning for g in self.generated],
            "raw_output": [g.text for g in self.generated],
            "emitted_label": [g.label for g in self.generated],
            "finish": [g.finish for g in self.generated],
            "truncated_tokens": self.truncated_tokens.tolist(),
            "error": self.errors,
            "bounded": self.bounded.tolist(),
        }
        rows = zip(*columns.values(), strict=True)
        jsonio.write_jsonl(path, (dict(zip(columns, row, strict=True)) for row in rows))

    @staticmethod
    def read(path: Path) -> Predictions:
        """Read a file that `write` wrote, in order."""
        rows = list(jsonio.read_jsonl(path))
        return Predictions.of(
            [row["example_id"] for row in rows],
            np.array([row["probability"] for row in rows], dtype=np.float64),  # None becomes NaN
            gold=[row["gold"] for row in rows],
            off_label_mass=[row["outside"] for row in rows],
            errors=[row.get("error") for row in rows],
            generated=[
                Generated(row["raw_output"], row["reasoning"], row["emitted_label"], row["finish"])
                for row in rows
            ],
            truncated_tokens=[row.get("truncated_tokens", 0) for row in rows],
            bounded=[row.get("bounded", False) for row in rows],
        )


def at_or_above(probability: ArrayLike, threshold: float) -> Bools:
    """Return whether each probability is at or above the threshold, in float64; NaN never is."""
    # NumPy compares a float32 score with a Python number in float32, where different numbers may be equal.
    return np.asarray(np.asarray(probability, np.float64) >= np.float64(threshold))


def optional(value: float | Floats) -> float | None:
    """Return one number as a Python float; None for NaN."""
    return None if np.isnan(value) else float(value)
