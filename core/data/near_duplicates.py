"""Families of near-duplicate texts: an exact set-similarity join, then connected components.

Two texts are near-duplicates from a Jaccard similarity of their shingle sets on; a family is what is
connected by such pairs. The join misses no pair: prefix filtering (Chaudhuri, Ganti, Kaushik 2006, "A
primitive operator for similarity joins in data cleaning") with the size order and the shorter indexed
prefix of AllPairs (Bayardo, Ma, Srikant 2007, "Scaling up all pairs similarity search") and the
positional filter of PPJoin (Xiao, Wang, Lin, Yu 2008, "Efficient similarity joins for near duplicate
detection"). Own code, since datasketch finds pairs only with some probability (MinHash) and
SetSimilaritySearch, which is exact, joins in pure Python and is no longer maintained.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from core.data.prefixes import Probes, overlap_needed, probes
from core.data.shingles import Ints, ShingleSets, normalised, shingle_sets
from core.progress import Progress, Silent

_CHUNK = 1 << 20
"""Candidate pairs looked at in one go: about 100 MB of arrays."""
_LOOKUPS = 1 << 22
"""Shingles looked up in one go while pairs are verified."""


def families(
    texts: Sequence[str], threshold: float, shingle: int, progress: Progress | None = None
) -> list[int]:
    """For each text the place of the first text of its family (its own where it has none).

    Exact: texts with Jaccard >= threshold are always together. Time grows with the number of pairs
    that share a rare shingle; identical texts are looked at once.
    """
    distinct: dict[str, int] = {}
    place = [distinct.setdefault(normalised(text), len(distinct)) for text in texts]
    sets, order = shingle_sets(list(distinct), shingle).by_size()
    joined = np.empty(len(order), np.int64)
    joined[order] = _join(sets, threshold, progress or Silent())
    first: dict[int, int] = {}
    return [first.setdefault(root, i) for i, root in enumerate(joined[place].tolist())]


def _join(sets: ShingleSets, threshold: float, progress: Progress) -> Ints:
    """The number of each set's family; sets come by size."""
    found = probes(sets, threshold)
    roots = np.arange(len(sets.sizes))
    # A first look at each probe's nearest neighbour joins large families by a few pairs, and the
    # second, at all the others, then skips the millions of pairs inside them.
    for look in (found.nearest(), found):
        total = int(look.counts.sum())
        done = 0
        for chunk in _chunks(look):
            done += int(chunk.counts.sum())
            roots = _look(sets, chunk.unsettled(roots), roots, threshold)
            progress.update(done, total, "pairs of texts that may be near-duplicates")
    return roots


def _chunks(look: Probes) -> Iterator[Probes]:
    for part in _parts(np.cumsum(look.counts), _CHUNK):
        yield look.take(part)


def _look(sets: ShingleSets, chunk: Probes, roots: Ints, threshold: float) -> Ints:
    large, small = _candidates(sets, chunk, roots, threshold)
    similar = _verified(sets, large, small, threshold)
    if not similar.any():
        return roots
    return _merged(roots, large[similar], small[similar])


def _candidates(sets: ShingleSets, chunk: Probes, roots: Ints, threshold: float) -> tuple[Ints, Ints]:
    """Pairs of sets of two families that share a shingle where only few can still follow."""
    probe = np.repeat(np.arange(len(chunk.counts)), chunk.counts)
    before = np.cumsum(chunk.counts) - chunk.counts
    entry = chunk.low[probe] + np.arange(len(probe)) - before[probe]
    large, small = chunk.owner[probe], chunk.index_owner[entry]
    apart = roots[large] != roots[small]
    probe, entry, large, small = probe[apart], entry[apart], large[apart], small[apart]
    sizes = sets.sizes
    left = np.minimum(sizes[large] - chunk.position[probe], sizes[small] - chunk.index_position[entry])
    reachable = left >= overlap_needed(sizes[large], sizes[small], threshold)
    pairs = np.unique(large[reachable] * len(sizes) + small[reachable])
    return pairs // len(sizes), pairs % len(sizes)


def _verified(sets: ShingleSets, large: Ints, small: Ints, threshold: float) -> npt.NDArray[np.bool_]:
    """Which pairs are similar: |A and B| / |A or B| >= threshold."""
    out = np.zeros(len(large), np.bool_)
    sizes = sets.sizes
    if not len(large):
        return out
    ends = np.cumsum(sizes[small])
    for part in np.split(
        np.arange(len(large)), np.unique(ends.searchsorted(np.arange(_LOOKUPS, int(ends[-1]), _LOOKUPS)))
    ):
        common = _common(sets, large[part], small[part])
        union = sizes[large[part]] + sizes[small[part]] - common
        out[part] = common / union >= threshold
    return out


def _parts(ends: Ints, step: int) -> list[Ints]:
    """Consecutive places in parts of about `step` units each; `ends` are the running sums of units."""
    total = int(ends[-1]) if len(ends) else 0
    cuts = np.unique(np.searchsorted(ends, np.arange(step, total, step)))
    return [part for part in np.split(np.arange(len(ends)), cuts) if len(part)]


def _common(sets: ShingleSets, large: Ints, small: Ints) -> Ints:
    """How many shingles each pair shares: those of the smaller set are looked up in the larger."""
    sizes = sets.sizes[small]
    pair = np.repeat(np.arange(len(small)), sizes)
    inside = np.arange(len(pair)) - (np.cumsum(sizes) - sizes)[pair]
    tokens = sets.tokens[sets.offsets[small][pair] + inside]
    keys = large[pair] * sets.kinds + tokens
    at = np.minimum(np.searchsorted(sets.keys, keys), len(sets.keys) - 1)
    return np.bincount(pair[sets.keys[at] == keys], minlength=len(small)).astype(np.int64)


def _merged(roots: Ints, left: Ints, right: Ints) -> Ints:
    """Families after these pairs are joined; each is named by its smallest member."""
    n = len(roots)
    rows, columns = np.concatenate((np.arange(n), left)), np.concatenate((roots, right))
    graph = coo_array((np.ones(len(rows), np.bool_), (rows, columns)), shape=(n, n))
    count, component = connected_components(graph, directed=False)
    smallest = np.full(count, n, np.int64)
    np.minimum.at(smallest, component, np.arange(n))
    joined: Ints = smallest[component]
    return joined
