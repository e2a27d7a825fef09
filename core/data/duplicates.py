"""Duplicates, texts with both labels and leaks between given splits; families of near-duplicates.

Duplicates, conflicts and leaks are counted and handled as the config sets; their texts are compared stripped.
Duplicates and conflicts are searched within one split (or within the table, if the splits are still to be
made); a text that two splits share is a leak, whatever its labels.

Two texts are near-duplicates if the Jaccard similarity of their sets of character shingles reaches a
threshold t; a family is what such pairs connect. An exact set-similarity join finds every pair by prefix
filtering (Chaudhuri, Ganti, Kaushik 2006, "A primitive operator for similarity joins in data cleaning") with
the size order and the shorter indexed prefix of AllPairs (Bayardo, Ma, Srikant 2007, "Scaling up all pairs
similarity search"): of sets x and y with Jaccard >= t the smaller has at least t times the larger's size, and
with all sets in one order (rarest shingle first) they share a shingle among the larger's first
|x| - ceil(t |x|) + 1 and the smaller's first |y| - ceil(2t / (1 + t) |y|) + 1.

Own code, since datasketch finds pairs only with some probability (MinHash) and SetSimilaritySearch, which is
exact, joins in pure Python and is unmaintained. scipy is imported where it is used: most runs never need it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from core.config import DataConfig
from core.data.labeled_rows import SHOWN, TableRow, listed
from core.errors import DataError
from core.progress import Progress, Silent
from core.records import SPLITS, SplitName

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Parts = dict[SplitName | None, list[TableRow]]
"""Rows by split; under None if the splits are still to be made."""
_Key = TypeVar("_Key", bound=Hashable)
Ints = npt.NDArray[np.int64]
_CHUNK = 1 << 20
"""Candidate pairs that are generated at once."""
_LOOKUPS = 1 << 22
"""Shingles that are compared at once while pairs are verified."""
_EPSILON = 1e-9
"""Keeps a bound that is whole in exact arithmetic from being rounded up: bounds may only be too weak."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Texts of one kind: how many, in how many rows, what was done, and the places of the first few."""

    texts: int
    rows: int
    action: str
    dropped_rows: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cleaned:
    """The remaining rows, and what was found. `shared` counts leaking texts by pair of splits."""

    parts: Parts
    duplicates: Finding
    conflicts: Finding
    leaks: Finding
    shared: dict[str, int]


def clean(rows: Iterable[TableRow], config: DataConfig) -> Cleaned:
    """Handle conflicts, then duplicates, then leaks, by the actions of the config.

    Raises DataError if the action is "error" and there are any.
    """
    parts: Parts = dict(_grouped(rows, lambda row: row.split))
    texts = [same for part in parts.values() for same in _grouped(part, _text).values()]
    found = [same for same in texts if len({row.example.label for row in same}) > 1]
    dropped = [row for same in found for row in same]
    parts, conflicts = _handle(parts, found, dropped, config, "conflicts", "with both labels")
    found = []
    for part in parts.values():
        copies = _grouped(part, lambda row: (_text(row), row.example.label)).values()
        found += sorted((same for same in copies if len(same) > 1), key=lambda same: same[1].line)
    dropped = [row for same in found for row in same[1:]]
    parts, duplicates = _handle(parts, found, dropped, config, "duplicates", "that occur more than once")
    given = [split for split in SPLITS if split in parts]
    by_text = {split: _grouped(parts[split], _text) for split in given}
    shared, leaking, dropped = dict[str, int](), dict[str, None](), []
    for early, late in combinations(given, 2):
        common = [text for text in by_text[early] if text in by_text[late]]
        shared[f"{early}+{late}"] = len(common)
        leaking |= dict.fromkeys(common)
        dropped += [row for text in common for row in by_text[early][text]]
    found = [[row for split in given for row in by_text[split].get(text, ())] for text in leaking]
    counts = ", ".join(f"{pair} {n}" for pair, n in shared.items() if n)
    parts, leaks = _handle(parts, found, dropped, config, "leaks", f"shared between splits ({counts})")
    return Cleaned(parts, duplicates, conflicts, leaks, shared)


def families(
    texts: Sequence[str], threshold: float, shingle: int, progress: Progress | None = None
) -> list[int]:
    """For each text the index of the first text of its family (its own if it has none).

    Exact: texts with Jaccard >= threshold are always together. Time grows with the number of pairs that
    share a rare shingle; identical texts are compared once.
    """
    if not texts:
        return []
    distinct: dict[str, int] = {}
    index = [distinct.setdefault(normalized(text), len(distinct)) for text in texts]
    sets = shingle_sets(list(distinct), shingle)
    order = np.argsort(np.diff(sets.indptr), kind="stable")
    joined = np.empty(len(order), np.int64)
    joined[order] = _join(sets[order], threshold, progress or Silent())
    first: dict[int, int] = {}
    return [first.setdefault(root, i) for i, root in enumerate(joined[index].tolist())]


def join_families(roots: Ints, left: Ints, right: Ints) -> Ints:
    """Families after the pairs of `left` and `right` are joined; each is named by its smallest member."""
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


def normalized(text: str) -> str:
    """The text as it is compared: lower case, single spaces, none at the ends."""
    return " ".join(text.lower().split())


def shingle_sets(texts: Sequence[str], length: int) -> csr_array:
    """A row of ones for each normalized text: its character n-grams, as columns, the rarest first.

    A shorter text is one shingle of its own.
    """
    from scipy.sparse import csr_array

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
    ones = np.ones(len(grams), np.int8)
    sets = csr_array((ones, (owners, rarity[grams])), shape=(len(sizes), kinds))
    sets.sort_indices()
    return sets


def _text(row: TableRow) -> str:
    return row.example.text.strip()


def _grouped(rows: Iterable[TableRow], key: Callable[[TableRow], _Key]) -> dict[_Key, list[TableRow]]:
    found = defaultdict[_Key, list[TableRow]](list)
    for row in rows:
        found[key(row)].append(row)
    return found


def _handle(
    parts: Parts,
    found: list[list[TableRow]],
    dropped: list[TableRow],
    config: DataConfig,
    key: str,
    what: str,
) -> tuple[Parts, Finding]:
    """Drop rows, keep them, or raise DataError, by the config; `found` are the rows of each text."""

    def places(same: list[TableRow]) -> str:
        return f"{same[0].example.id}: {', '.join(row.at for row in same[:3])}"

    action: str = getattr(config, key)
    if found and action == "error":
        remedy = f"fix them, or set data.{key}: drop (or keep)"
        raise DataError(f"texts {what}: {len(found)}; {remedy}:{listed(found, places)}")
    gone = {id(row) for row in dropped} if action == "drop" else set()
    if gone:
        parts = {split: [row for row in rows if id(row) not in gone] for split, rows in parts.items()}
    examples = tuple(places(same) for same in found[:SHOWN])
    return parts, Finding(len(found), sum(map(len, found)), action, len(gone), examples)


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


def _join(sets: csr_array, threshold: float, progress: Progress) -> Ints:
    """The number of each set's family; sets come by size."""
    sizes = np.diff(sets.indptr)
    smallest = _least(threshold * sizes)
    probes = _prefixes(sets, sizes + 1 - smallest)
    index = _prefixes(sets, sizes + 1 - _least(2 * threshold / (1 + threshold) * sizes)).tocsc()
    roots = np.arange(len(sizes))
    # Each set and the one nearest in size with the same shingle join large families by a few pairs; the
    # shingles that are then in one family only are left out, and with them the millions of pairs inside.
    column = np.repeat(np.arange(sets.shape[1]), np.diff(index.indptr))
    nearest = np.flatnonzero(column[1:] == column[:-1])
    pairs = np.unique(index.indices[nearest + 1].astype(np.int64) * len(sizes) + index.indices[nearest])
    roots = _joined(sets, roots, pairs // len(sizes), pairs % len(sizes), threshold)
    least, most = np.full(sets.shape[1], len(sizes)), np.full(sets.shape[1], -1)
    for prefixes in (probes.tocsc(), index):
        column = np.repeat(np.arange(sets.shape[1]), np.diff(prefixes.indptr))
        np.minimum.at(least, column, roots[prefixes.indices])
        np.maximum.at(most, column, roots[prefixes.indices])
    apart = np.flatnonzero(least < most)
    probes, index = probes[:, apart], index[:, apart].T.tocsr()
    met = np.cumsum(probes @ np.diff(index.indptr))
    for rows in _chunks(met, _CHUNK):
        found = (probes[rows[0] : rows[-1] + 1] @ index).tocoo()
        large, small = found.row + rows[0], found.col
        fits = (small < large) & (sizes[small] >= smallest[large]) & (roots[small] != roots[large])
        roots = _joined(sets, roots, large[fits], small[fits], threshold)
        done = int(met[rows[-1]])
        progress.update(done, int(met[-1]), "pairs of texts that may be near-duplicates")
    return roots


def _prefixes(sets: csr_array, lengths: Ints) -> csr_array:
    """The first shingles of each set."""
    from scipy.sparse import csr_array

    sizes = np.diff(sets.indptr)
    inside = np.arange(sets.nnz) - np.repeat(sets.indptr[:-1], sizes) < np.repeat(lengths, sizes)
    ends = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths)))
    return csr_array((np.ones(int(ends[-1]), np.int32), sets.indices[inside], ends), shape=sets.shape)


def _joined(sets: csr_array, roots: Ints, left: Ints, right: Ints, threshold: float) -> Ints:
    """Families after the pairs that are similar are joined: |A and B| / |A or B| >= threshold."""
    sizes = np.diff(sets.indptr)
    similar = np.zeros(len(left), np.bool_)
    for part in _chunks(np.cumsum(sizes[left] + sizes[right]), _LOOKUPS):
        common = sets[left[part]].multiply(sets[right[part]]).sum(axis=1)
        similar[part] = common / (sizes[left[part]] + sizes[right[part]] - common) >= threshold
    return join_families(roots, left[similar], right[similar]) if similar.any() else roots


def _chunks(ends: Ints, step: int) -> Iterator[Ints]:
    """Consecutive indices in chunks of about `step` units each; `ends` are the running sums of units."""
    total = int(ends[-1]) if len(ends) else 0
    cuts = np.unique(np.searchsorted(ends, np.arange(step, total, step)))
    return (part for part in np.split(np.arange(len(ends)), cuts) if len(part))


def _least(bound: npt.NDArray[np.floating[Any]]) -> Ints:
    """The smallest whole number that is not below a bound."""
    whole: Ints = np.ceil(bound - _EPSILON).astype(np.int64)
    return whole
