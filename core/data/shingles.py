"""Texts as sets of character shingles, numbered exactly (no hashing) and by rarity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
_PAD = "\n"
"""Fills texts shorter than a shingle; it stands in no normalised text."""


@dataclass(frozen=True, slots=True)
class ShingleSets:
    """Sets in one array: set i is `tokens[offsets[i]:offsets[i + 1]]`, ascending, the rarest first.

    `tokens` are ranks by the number of sets a shingle occurs in, `kinds` how many ranks there are;
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

    def by_size(self) -> tuple[ShingleSets, Ints]:
        """The same sets from the smallest to the largest, and for each its former number."""
        order = np.argsort(self.sizes, kind="stable")
        number = np.empty(len(order), np.int64)
        number[order] = np.arange(len(order))
        owners = np.repeat(number, self.sizes)
        return ShingleSets.of(np.sort(owners * self.kinds + self.tokens), len(order), self.kinds), order


def normalised(text: str) -> str:
    """The text as it is compared: lower case, single spaces, none at the ends."""
    return " ".join(text.lower().split())


def shingle_sets(texts: Sequence[str], length: int) -> ShingleSets:
    """The sets of character n-grams of normalised texts; a shorter text is one shingle of its own."""
    if not texts:
        return ShingleSets.of(np.zeros(0, np.int64), 0, 1)
    padded = [text if len(text) >= length else text.ljust(length, _PAD) for text in texts]
    sizes = np.fromiter(map(len, padded), np.int64, len(padded))
    inside = _starts(sizes, length)
    grams, kinds = _ranked(_ngrams("".join(padded), length)[inside])
    return _sets(np.repeat(np.arange(len(sizes)), sizes - length + 1), grams, len(sizes), kinds)


def _starts(sizes: Ints, length: int) -> npt.NDArray[np.bool_]:
    """Which n-grams of the joined texts lie inside one text."""
    inside = np.ones(int(sizes.sum()), np.bool_)
    ends = np.cumsum(sizes)
    for back in range(1, length):
        inside[ends - back] = False
    return inside[: len(inside) - length + 1]


def _ngrams(text: str, length: int) -> Ints:
    """A number for each n-gram, equal only where the n-grams are: packed, and ranked where 62 bits end."""
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


def _sets(owners: Ints, grams: Ints, n: int, kinds: int) -> ShingleSets:
    pairs = _distinct(owners * kinds + grams)
    owners, grams = pairs // kinds, pairs % kinds
    frequency = np.bincount(grams, minlength=kinds)
    rarity = np.empty(kinds, np.int64)
    rarity[np.argsort(frequency, kind="stable")] = np.arange(kinds)
    return ShingleSets.of(np.sort(owners * kinds + rarity[grams]), n, kinds)


def _distinct(values: Ints) -> Ints:
    """np.unique by one sort (its hash table is slower here and takes more memory)."""
    values = np.sort(values)
    return values[np.concatenate(([True], values[1:] != values[:-1]))]
