"""Rows a few at a time, as itertools.batched of Python 3.12 gives them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def batched(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` rows in order, the last of what is left; only the one at hand is held."""
    them = iter(rows)
    while some := list(islice(them, size)):
        yield some
