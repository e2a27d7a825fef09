"""Parity of a bundle: whether each way to open the student gives the same labels and log-probabilities."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from core.engines import ChoiceScores, Sampler, score_differences
from core.evaluation.decision import Decision
from core.evaluation.predictions import Bools, at_or_above
from core.evaluation.student_scores import label_probability
from core.export.bundle import PARITY
from core.jsonio import Stored
from core.student.encoding import Encoder

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Apart:
    """How two ways to the same student differ on `rows` rows; `flips` counts rows with another label.

    `largest` is the largest difference of a log-probability (nats), over all surface forms of both labels;
    None where only one of the two gives a form no probability at all.
    """

    rows: int
    largest: float | None
    flips: int


class Parity(Stored):
    """The content of parity.json: the way `against` which others were compared, or `why` none was."""

    checked: bool
    why: str | None = None
    against: str | None = None
    reloaded: Apart | None = None
    merged: Apart | None = None


def compare_ways(
    encoder: Encoder,
    decision: Decision,
    prompts: Sequence[Sequence[int]],
    ways: Mapping[str, Callable[[], Sampler]],
) -> Parity:
    """Score the labels after each prompt in each of `ways` (trained, reloaded, merged); compare to the first.

    Rows that a server failed on, or gave a bound for, are left out.
    """
    choices = encoder.choices()
    flat = [form for label in encoder.labels for form in choices[label]]
    scores: dict[str, ChoiceScores] = {}
    for name, open_sampler in ways.items():
        with closing(open_sampler()) as sampler:
            scores[name] = sampler.score(prompts, flat)
    (first, there), *others = scores.items()
    found: dict[str, Apart] = {}
    for name, here in others:
        differences = score_differences(there, here)
        a, b = (
            _labels([s.logprobs[i] for i in differences], len(choices[0]), decision) for s in (there, here)
        )
        largest, flips = max(differences.values(), default=0.0), int(np.count_nonzero(a != b))
        is_finite = math.isfinite(largest)
        found[name] = Apart(len(differences), largest if is_finite else None, flips)
        log.log(
            logging.WARNING if flips else logging.INFO,
            "%s and %s: the log-probabilities of %d rows differ by %s at most, %d labels are others",
            *(first, name, len(differences), f"{largest:.2g}" if is_finite else "no number", flips),
        )
    # A way that was not compared is absent from parity.json, not null.
    return Parity.from_json({"checked": True, "against": first, **found}, PARITY)


def _labels(rows: Sequence[Sequence[float]], zeros: int, decision: Decision) -> Bools:
    """Decide each row; the first `zeros` of its log-probabilities are of forms of label 0."""
    raw = np.array([label_probability(row[:zeros], row[zeros:]) for row in rows], dtype=np.float64)
    threshold = 0.5 if decision.threshold is None else decision.threshold
    return at_or_above(decision.calibrator.apply(raw), threshold)
