"""Natural order: numbers inside names count as numbers, so that R2 comes before R10."""

from __future__ import annotations

import re

NaturalKey = tuple[tuple[int, int, str], ...]
_PARTS = re.compile(r"[0-9]+|[^0-9]", re.DOTALL)


def natural_key(name: str) -> NaturalKey:
    """Return the sort key of a name: that of the plain order, save for numbers of several digits.

    >>> sorted(["R10", "R2", "R1"], key=natural_key)
    ['R1', 'R2', 'R10']
    """
    return tuple(
        (ord("0"), int(part), part) if part.isascii() and part.isdigit() else (ord(part), 0, "")
        for part in _PARTS.findall(name)
    )
