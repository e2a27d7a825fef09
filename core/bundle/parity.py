"""Whether a bundle answers as the student did: log-probabilities and labels on the same rows."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from core.engines.sampling import ChoiceScores, Sampler, difference
from core.evaluation.decision import Decision
from core.evaluation.predictions import Bools, at_or_above
from core.evaluation.scoring import label_probability
from core.jsonio import Stored
from core.student.encoding import Encoder

log = logging.getLogger(__name__)
EVEN_ODDS = 0.5


@dataclass(frozen=True, slots=True)
class Apart:
    """How two ways to the same student differ on `rows` rows.

    `largest` is the largest difference of a log-probability (nats), over all surface forms of both labels;
    None where one of the two gives a form no probability at all. `flips` counts rows with another label.
    """

    rows: int
    largest: float | None
    flips: int


class Parity(Stored):
    """The content of parity.json: whether the bundle gives the answers of the model that was trained."""

    checked: bool
    why: str | None = None
    """Why it was not checked."""
    against: str | None = None
    """The way that the others are compared with."""
    reloaded: Apart | None = None
    merged: Apart | None = None


def compare(
    encoder: Encoder,
    decision: Decision,
    prompts: Sequence[Sequence[int]],
    ways: Mapping[str, Callable[[], Sampler]],
) -> Parity:
    """Score the labels after each of `prompts` in each way, one after another, and compare with the first.

    `ways` may be named `trained`, `reloaded` and `merged`. Rows that a server failed on, or gave a bound for,
    are left out.
    """
    choices = encoder.choices()
    flat = [form for label in encoder.labels for form in choices[label]]
    scores: dict[str, ChoiceScores] = {}
    for name, open_sampler in ways.items():
        with closing(open_sampler()) as sampler:
            scores[name] = sampler.score(prompts, flat)
    (first, there), *others = scores.items()
    found = {name: _apart(there, here, len(choices[0]), decision) for name, here in others}
    for name, apart in found.items():
        largest = "no number" if apart.largest is None else f"{apart.largest:.2g}"
        log.log(
            logging.WARNING if apart.flips else logging.INFO,
            "%s and %s: the log-probabilities of %d rows differ by %s at most, %d labels are others",
            *(first, name, apart.rows, largest, apart.flips),
        )
    return Parity.from_json({"checked": True, "against": first, **found}, "parity.json")


def _apart(there: ChoiceScores, here: ChoiceScores, zeros: int, decision: Decision) -> Apart:
    bad = {i for scores in (there, here) for i in (*scores.errors, *(row for row, _ in scores.bounds))}
    kept = [i for i in range(len(there.logprobs)) if i not in bad]
    a, b = ([scores.logprobs[i] for i in kept] for scores in (there, here))
    gaps = [
        difference(x, y) for one, other in zip(a, b, strict=True) for x, y in zip(one, other, strict=True)
    ]
    largest = max(gaps, default=0.0)
    flips = np.count_nonzero(_labels(a, zeros, decision) != _labels(b, zeros, decision))
    return Apart(len(kept), largest if math.isfinite(largest) else None, int(flips))


def _labels(rows: Sequence[Sequence[float]], zeros: int, decision: Decision) -> Bools:
    raw = np.array([label_probability(row[:zeros], row[zeros:]) for row in rows], dtype=np.float64)
    threshold = EVEN_ODDS if decision.threshold is None else decision.threshold
    return at_or_above(decision.calibrator.apply(raw), threshold)
