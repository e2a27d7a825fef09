"""Metrics on parts of the rows: by cited rule, length, group, and agreement with the teacher.

With many slices one of them is low by chance, so none is tested against the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.evaluation.bootstrap import Judged, intervals
from core.evaluation.predictions import Bools
from core.intervals import Interval
from core.rulebook import cited

RESAMPLES = 2_000
LEAST_ROWS = 10
MOST_GROUPS = 20
LENGTH_BUCKETS = 4


@dataclass(frozen=True, slots=True)
class Slice:
    """The rows of one name under one labeling ("length", "241 to 520 characters")."""

    by: str
    name: str
    rows: int
    positive: int
    metrics: Mapping[str, Interval]


Labeling = Mapping[str, Bools]
"""Masks of rows by name; a row may be in several or in none."""


def slices(
    by: str,
    labeling: Labeling,
    positive: Bools,
    judged: Judged,
    groups: Sequence[str | None] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Slice]:
    """Return every metric of each slice with at least LEAST_ROWS rows, in the order of the labeling.

    For slices by group leave `groups` out: one group alone cannot be resampled.
    """
    found = []
    for name, rows in labeling.items():
        n = int(rows.sum())
        if n < LEAST_ROWS:
            continue
        kept = None if groups is None else [g for g, r in zip(groups, rows, strict=True) if r]
        part = [judged.take(rows)]
        metrics = intervals(positive[rows], part, kept, resamples=resamples, seed=seed)[0]
        found.append(Slice(by, name, n, int(positive[rows].sum()), metrics))
    return found


def by_length(texts: Sequence[str]) -> Labeling:
    """Return buckets of lengths in characters, of as equal sizes as ties allow."""
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    if len(lengths) == 0:
        return {}
    ends = np.unique(np.quantile(lengths, np.arange(1, LENGTH_BUCKETS + 1) / LENGTH_BUCKETS, method="higher"))
    bucket = np.searchsorted(ends, lengths, side="left")
    starts = [int(lengths.min()), *(int(e) + 1 for e in ends[:-1])]
    return {
        f"{low} to {int(high)} characters": bucket == k
        for k, (low, high) in enumerate(zip(starts, ends, strict=True))
    }


def by_group(groups: Sequence[str | None]) -> Labeling:
    """Return the largest groups, at most MOST_GROUPS, the largest first; ties by name."""
    counted = Counter(g for g in groups if g is not None)
    largest = sorted(counted, key=lambda g: (-counted[g], g))[:MOST_GROUPS]
    return {name: np.array([g == name for g in groups], dtype=np.bool_) for name in largest}


def by_cited_rule(reasonings: Sequence[str | None], known: tuple[str, ...]) -> Labeling:
    """Return the rows whose reasoning cites each rule of the rulebook, in its order, and those with none.

    Rows without a reasoning are in no slice.
    """
    cites = [None if r is None else frozenset(cited(r, known)) & set(known) for r in reasonings]
    rules = {rule: np.array([c is not None and rule in c for c in cites], dtype=np.bool_) for rule in known}
    return {**rules, "no rule": np.array([c is not None and not c for c in cites], dtype=np.bool_)}


def by_agreement(positive: Bools, teacher: Sequence[int | None]) -> Labeling:
    """Return the rows on which the teacher agrees with gold, and disagrees; None: no label."""
    labels = np.array([-1 if t is None else t for t in teacher], dtype=np.int64)
    right = labels == positive.astype(np.int64)
    return {"teacher agrees with gold": right, "teacher disagrees with gold": ~right & (labels >= 0)}
