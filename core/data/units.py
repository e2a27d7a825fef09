"""Which rows a made split keeps together: groups, families of near-duplicates, equal texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from core.config.data import NearDuplicates
from core.data.near_duplicates import families
from core.data.reading import Row
from core.progress import Progress


@dataclass(frozen=True, slots=True)
class Units:
    """For each row the number of its unit; how many families and units have more than one row.

    `giants` are the units of more than the configured share of all rows.
    """

    of_row: list[int]
    families: int | None
    rows_in_families: int
    several: int
    giants: tuple[Giant, ...]


@dataclass(frozen=True, slots=True)
class Giant:
    """A unit so large that it decides what a split is like. `kind` says what made it so large."""

    kind: str
    rows: int
    share: float
    example_id: str

    def as_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "rows": self.rows, "share": self.share, "example_id": self.example_id}


def find_units(rows: Sequence[Row], config: NearDuplicates, progress: Progress) -> Units:
    """Connected components of "same group", "same family" and "same stripped text"."""
    texts = [row.example.text for row in rows]
    groups = [row.example.group for row in rows]
    found = families(texts, config.threshold, config.shingle, progress) if config.enabled else None
    keys: list[Iterable[Hashable | None]] = [[text.strip() for text in texts], groups]
    of_row = components(len(rows), [*keys, found] if found else keys)
    sizes = Counter(found or ())
    several = [n for n in sizes.values() if n > 1]
    giants = _giants("family", found or [], rows, config.giant)
    giants += [] if found == of_row else _giants("unit", of_row, rows, config.giant)
    total = None if found is None else len(several)
    units = Counter(of_row)
    return Units(of_row, total, sum(several), sum(n > 1 for n in units.values()), tuple(giants))


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


def _giants(kind: str, of_row: Sequence[int], rows: Sequence[Row], share: float) -> list[Giant]:
    sizes = Counter(of_row)
    large = [(place, n) for place, n in sizes.most_common() if n > 1 and n > share * len(rows)]
    return [Giant(kind, n, round(n / len(rows), 4), rows[place].example.id) for place, n in large]
