"""Prefixes of shingle sets: where two similar sets must meet.

Of sets with Jaccard >= t the smaller has at least t times the larger's size, and with all sets in one
order (rarest first) they share a shingle among the larger's first |x| - ceil(t |x|) + 1 and the
smaller's first |y| - ceil(2t / (1 + t) |y|) + 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from core.data.shingles import Ints, ShingleSets

_EPSILON = 1e-9
"""Keeps a bound that is whole in exact arithmetic from being rounded up: bounds may only be too weak."""


@dataclass(frozen=True, slots=True)
class Probes:
    """Prefix shingles of sets (`owner`, and `position` in it), each with what it may meet.

    These are the entries `low` to `high` of the index: shingles of no larger sets, of `index_owner`, at
    `index_position`.
    """

    owner: Ints
    position: Ints
    low: Ints
    high: Ints
    index_owner: Ints
    index_position: Ints

    @property
    def counts(self) -> Ints:
        return self.high - self.low

    def take(self, which: Ints | npt.NDArray[np.bool_]) -> Probes:
        """Some of the probes, with the whole index."""
        low, high = self.low[which], self.high[which]
        return replace(self, owner=self.owner[which], position=self.position[which], low=low, high=high)

    def nearest(self) -> Probes:
        """All probes, each with the one entry that is nearest to it in size."""
        return replace(self, low=self.high - 1)

    def unsettled(self, roots: Ints) -> Probes:
        """The probes that may meet a set of another family."""
        families = roots[self.index_owner]
        changes = np.cumsum(np.concatenate(([False], families[1:] != families[:-1])))
        one = changes[self.low] == changes[self.high - 1]
        return self.take(~(one & (families[self.low] == roots[self.owner])))


def probes(sets: ShingleSets, threshold: float) -> Probes:
    """All probes that may meet something. The sets come by size, so an owner's number orders sizes."""
    n = len(sets.sizes)
    longest = sets.sizes + 1 - least(threshold * sets.sizes)
    owner = np.repeat(np.arange(n), longest)
    position = np.arange(len(owner)) - (np.cumsum(longest) - longest)[owner]
    key = sets.tokens[sets.offsets[owner] + position] * n + owner
    indexed = sets.sizes + 1 - least(2 * threshold / (1 + threshold) * sets.sizes)
    inside = np.flatnonzero(position < indexed[owner])
    inside = inside[np.argsort(key[inside], kind="stable")]
    smallest = np.searchsorted(sets.sizes, least(threshold * sets.sizes))
    low = np.searchsorted(key[inside], key - owner + smallest[owner])
    high = np.searchsorted(key[inside], key)
    found = Probes(owner, position, low, high, owner[inside], position[inside])
    return found.take(low < high)


def overlap_needed(large: Ints, small: Ints, threshold: float) -> Ints:
    """How many shingles sets of these sizes must share: ceil(t / (1 + t) (|x| + |y|))."""
    return least(threshold / (1 + threshold) * (large + small))


def least(bound: npt.NDArray[np.floating[Any]]) -> Ints:
    """The smallest whole number that is not below a bound."""
    whole: Ints = np.ceil(bound - _EPSILON).astype(np.int64)
    return whole
