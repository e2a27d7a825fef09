"""Families of near-duplicate texts: an exact set-similarity join, then connected components.

Two texts are near-duplicates if the Jaccard similarity of their sets of character shingles reaches a
threshold t; a family is what such pairs connect. The join misses no pair. It uses prefix filtering
(Chaudhuri, Ganti, Kaushik 2006, "A primitive operator for similarity joins in data cleaning") with the size
order and the shorter indexed prefix of AllPairs (Bayardo, Ma, Srikant 2007, "Scaling up all pairs similarity
search") and the positional filter of PPJoin (Xiao, Wang, Lin, Yu 2008, "Efficient similarity joins for near
duplicate detection"): of sets x and y with Jaccard >= t the smaller has at least t times the larger's size,
and with all sets in one order (rarest shingle first) they share a shingle among the larger's first
|x| - ceil(t |x|) + 1 and the smaller's first |y| - ceil(2t / (1 + t) |y|) + 1.

Own code, since datasketch finds pairs only with some probability (MinHash) and SetSimilaritySearch, which is
exact, joins in pure Python and is unmaintained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from core.progress import Progress, Silent

Ints = npt.NDArray[np.int64]
_CHUNK = 1 << 20
"""Candidate pairs that are generated at once: about 100 MB of arrays."""
_LOOKUPS = 1 << 22
"""Shingles that are looked up at once while pairs are verified."""
_EPSILON = 1e-9
"""Keeps a bound that is whole in exact arithmetic from being rounded up: bounds may only be too weak."""


def families(
    texts: Sequence[str], threshold: float, shingle: int, progress: Progress | None = None
) -> list[int]:
    """For each text the index of the first text of its family (its own if it has none).

    Exact: texts with Jaccard >= threshold are always together. Time grows with the number of pairs that
    share a rare shingle; identical texts are compared once.
    """
    distinct: dict[str, int] = {}
    index = [distinct.setdefault(normalized(text), len(distinct)) for text in texts]
    found = shingle_sets(list(distinct), shingle)
    order = np.argsort(found.sizes, kind="stable")
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(len(order))
    by_size = np.sort(np.repeat(number, found.sizes) * found.kinds + found.tokens)
    sets = ShingleSets.of(by_size, len(order), found.kinds)
    joined = np.empty(len(order), np.int64)
    joined[order] = _join(sets, threshold, progress or Silent())
    first: dict[int, int] = {}
    return [first.setdefault(root, i) for i, root in enumerate(joined[index].tolist())]


def normalized(text: str) -> str:
    """The text as it is compared: lower case, single spaces, none at the ends."""
    return " ".join(text.lower().split())


@dataclass(frozen=True, slots=True)
class ShingleSets:
    """Sets in one array: set i is `tokens[offsets[i]:offsets[i + 1]]`, ascending, the rarest first.

    `tokens` are ranks by the number of sets a shingle occurs in, `kinds` is the number of ranks;
    `keys`, ascending, are set * kinds + token, for looking a token up in a set.
    """

    keys: Ints
    tokens: Ints
    offsets: Ints
    sizes: Ints
    kinds: int

    @classmethod
    def of(cls, keys: Ints, n: int, kinds: int) -> ShingleSets:
        """From distinct ascending keys of `n` sets."""
        sizes = np.bincount(keys // kinds, minlength=n).astype(np.int64)
        offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))
        return cls(keys, keys % kinds, offsets, sizes, kinds)


def shingle_sets(texts: Sequence[str], length: int) -> ShingleSets:
    """The sets of character n-grams of normalized texts; a shorter text is one shingle of its own."""
    if not texts:
        return ShingleSets.of(np.zeros(0, np.int64), 0, 1)
    padded = [text.ljust(length, "\n") for text in texts]  # no normalized text has a line feed
    sizes = np.fromiter(map(len, padded), np.int64, len(padded))
    inside = np.ones(int(sizes.sum()), np.bool_)  # n-grams of the joined texts that are in one text
    ends = np.cumsum(sizes)
    for back in range(1, length):
        inside[ends - back] = False
    inside = inside[: len(inside) - length + 1]
    grams, kinds = _ranked(_ngrams("".join(padded), length)[inside])
    owners = np.repeat(np.arange(len(sizes)), sizes - length + 1)
    # As np.unique, by one sort: its hash table is slower here and takes more memory.
    pairs = np.sort(owners * kinds + grams)
    pairs = pairs[np.concatenate(([True], pairs[1:] != pairs[:-1]))]
    owners, grams = pairs // kinds, pairs % kinds
    rarity = np.empty(kinds, np.int64)
    rarity[np.argsort(np.bincount(grams, minlength=kinds), kind="stable")] = np.arange(kinds)
    return ShingleSets.of(np.sort(owners * kinds + rarity[grams]), len(sizes), kinds)


def _ngrams(text: str, length: int) -> Ints:
    """A number for each n-gram, equal only for equal n-grams: packed, and ranked when 62 bits are full."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    ranks = np.zeros(0x110000, np.int32)
    alphabet = np.flatnonzero(np.bincount(codes, minlength=len(ranks)))
    ranks[alphabet] = np.arange(len(alphabet))
    ranks = ranks[codes]
    base, grams, kinds = len(alphabet), ranks.astype(np.int64), len(alphabet)
    for shift in range(1, length):
        if kinds * base >= 2**62:
            grams, kinds = _ranked(grams)
        grams = grams[:-1] * base
        grams += ranks[shift:]
        kinds *= base
    return grams


def _ranked(values: Ints) -> tuple[Ints, int]:
    distinct, ranks = np.unique(values, return_inverse=True)
    return ranks.astype(np.int64, copy=False), len(distinct)


@dataclass(frozen=True, slots=True)
class _Probes:
    """Prefix shingles of sets (`owner`, and `position` in it), each with what it may meet.

    These are the entries `low` to `high` of the index: shingles of sets that are not larger, of
    `index_owner`, at `index_position`.
    """

    owner: Ints
    position: Ints
    low: Ints
    high: Ints
    index_owner: Ints
    index_position: Ints

    @classmethod
    def of(cls, sets: ShingleSets, threshold: float) -> _Probes:
        """All probes that may meet something. The sets come by size, so an owner's number orders sizes."""
        n = len(sets.sizes)
        longest = sets.sizes + 1 - _least(threshold * sets.sizes)
        owner = np.repeat(np.arange(n), longest)
        position = np.arange(len(owner)) - (np.cumsum(longest) - longest)[owner]
        key = sets.tokens[sets.offsets[owner] + position] * n + owner
        indexed = sets.sizes + 1 - _least(2 * threshold / (1 + threshold) * sets.sizes)
        inside = np.flatnonzero(position < indexed[owner])
        inside = inside[np.argsort(key[inside], kind="stable")]
        smallest = np.searchsorted(sets.sizes, _least(threshold * sets.sizes))
        low = np.searchsorted(key[inside], key - owner + smallest[owner])
        high = np.searchsorted(key[inside], key)
        return cls(owner, position, low, high, owner[inside], position[inside]).take(low < high)

    def take(self, which: Ints | npt.NDArray[np.bool_]) -> _Probes:
        """Some of the probes, with the whole index."""
        low, high = self.low[which], self.high[which]
        return replace(self, owner=self.owner[which], position=self.position[which], low=low, high=high)


def _join(sets: ShingleSets, threshold: float, progress: Progress) -> Ints:
    """The number of each set's family; sets come by size."""
    probes = _Probes.of(sets, threshold)
    # The first pass, over the one entry nearest in size to each probe, joins large families by a few pairs;
    # the second, over all entries, then skips the millions of pairs inside them.
    nearest = replace(probes, low=probes.high - 1)
    roots = np.arange(len(sets.sizes))
    for chosen in (nearest, probes):
        pairs = np.cumsum(chosen.high - chosen.low)
        for part in _parts(pairs, _CHUNK):
            met, families = chosen.take(part), roots[chosen.index_owner]
            changes = np.cumsum(np.concatenate(([False], families[1:] != families[:-1])))
            one_family = changes[met.low] == changes[met.high - 1]
            settled = one_family & (families[met.low] == roots[met.owner])
            large, small = _candidates(sets, met.take(~settled), roots, threshold)
            similar = _verified(sets, large, small, threshold)
            if similar.any():
                roots = _merged(roots, large[similar], small[similar])
            done, total = int(pairs[part[-1]]), int(pairs[-1])
            progress.update(done, total, "pairs of texts that may be near-duplicates")
    return roots


def _parts(ends: Ints, step: int) -> list[Ints]:
    """Consecutive indices in parts of about `step` units each; `ends` are the running sums of units."""
    total = int(ends[-1]) if len(ends) else 0
    cuts = np.unique(np.searchsorted(ends, np.arange(step, total, step)))
    return [part for part in np.split(np.arange(len(ends)), cuts) if len(part)]


def _candidates(sets: ShingleSets, chunk: _Probes, roots: Ints, threshold: float) -> tuple[Ints, Ints]:
    """Pairs of sets of two families that share a shingle after which enough others can follow."""
    counts = chunk.high - chunk.low
    probe = np.repeat(np.arange(len(counts)), counts)
    entry = chunk.low[probe] + np.arange(len(probe)) - (np.cumsum(counts) - counts)[probe]
    large, small = chunk.owner[probe], chunk.index_owner[entry]
    apart = roots[large] != roots[small]
    probe, entry, large, small = probe[apart], entry[apart], large[apart], small[apart]
    sizes = sets.sizes
    left = np.minimum(sizes[large] - chunk.position[probe], sizes[small] - chunk.index_position[entry])
    reachable = left >= _least(threshold / (1 + threshold) * (sizes[large] + sizes[small]))
    pairs = np.unique(large[reachable] * len(sizes) + small[reachable])
    return pairs // len(sizes), pairs % len(sizes)


def _verified(sets: ShingleSets, large: Ints, small: Ints, threshold: float) -> npt.NDArray[np.bool_]:
    """Which pairs are similar: |A and B| / |A or B| >= threshold."""
    similar = np.zeros(len(large), np.bool_)
    for part in _parts(np.cumsum(sets.sizes[small]), _LOOKUPS):
        # The shingles of the smaller sets are looked up in the larger ones.
        larger, smaller, sizes = large[part], small[part], sets.sizes[small[part]]
        pair = np.repeat(np.arange(len(smaller)), sizes)
        inside = np.arange(len(pair)) - (np.cumsum(sizes) - sizes)[pair]
        tokens = sets.tokens[sets.offsets[smaller][pair] + inside]
        keys = larger[pair] * sets.kinds + tokens
        at = np.minimum(np.searchsorted(sets.keys, keys), len(sets.keys) - 1)
        common = np.bincount(pair[sets.keys[at] == keys], minlength=len(smaller)).astype(np.int64)
        similar[part] = common / (sets.sizes[larger] + sizes - common) >= threshold
    return similar


def _merged(roots: Ints, left: Ints, right: Ints) -> Ints:
    """Families after these pairs are joined; each is named by its smallest member."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(roots)
    rows, columns = np.concatenate((np.arange(n), left)), np.concatenate((roots, right))
    graph = coo_array((np.ones(len(rows), np.bool_), (rows, columns)), shape=(n, n))
    count, component = connected_components(graph, directed=False)
    smallest = np.full(count, n, np.int64)
    np.minimum.at(smallest, component, np.arange(n))
    joined: Ints = smallest[component]
    return joined


def _least(bound: npt.NDArray[np.floating[Any]]) -> Ints:
    """The smallest whole number that is not below a bound."""
    whole: Ints = np.ceil(bound - _EPSILON).astype(np.int64)
    return whole
