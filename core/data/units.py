"""The rows that a split made here keeps together: groups, families of near-duplicates, equal texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from core.config.data import NearDuplicates
from core.data.near_duplicates import families
from core.data.reading import Row
from core.progress import Progress


@dataclass(frozen=True, slots=True)
class Giant:
    """A family or unit so large that it decides what a split is like."""

    kind: str
    rows: int
    share: float
    example_id: str


@dataclass(frozen=True, slots=True)
class Units:
    """The unit number of each row, and how many families and units have more than one row.

    `giants` have more than the configured share of all rows.
    """

    of_row: list[int]
    families: int | None
    rows_in_families: int
    several: int
    giants: tuple[Giant, ...]


def find_units(rows: Sequence[Row], config: NearDuplicates, progress: Progress) -> Units:
    """Connected components of "same group", "same family" and "same stripped text"."""
    texts = [row.example.text for row in rows]
    found = families(texts, config.threshold, config.shingle, progress) if config.enabled else None
    keys: list[Iterable[Hashable | None]] = [
        [text.strip() for text in texts],
        [row.example.group for row in rows],
    ]
    of_row = components(len(rows), [*keys, found] if found else keys)
    giants = []
    for kind, numbers in (("family", found or []), ("unit", [] if found == of_row else of_row)):
        for first, n in Counter(numbers).most_common():
            if n > 1 and n > config.giant * len(rows):
                giants.append(Giant(kind, n, round(n / len(rows), 4), rows[first].example.id))
    in_families = [n for n in Counter(found or ()).values() if n > 1]
    several = sum(n > 1 for n in Counter(of_row).values())
    total = None if found is None else len(in_families)
    return Units(of_row, total, sum(in_families), several, tuple(giants))


def components(n: int, keys: Sequence[Iterable[Hashable | None]]) -> list[int]:
    """For each of `n` rows the first row that is connected to it by an equal key (None joins nothing)."""
    parent = list(range(n))

    def find(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for column in keys:
        first: dict[Hashable, int] = {}
        for i, key in enumerate(column):
            if key is not None:
                one, other = find(first.setdefault(key, i)), find(i)
                parent[max(one, other)] = min(one, other)
    return [find(i) for i in range(n)]
