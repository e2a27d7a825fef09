"""The labels of a run: their names in the data, and the codes that the student writes for them.

A label is an index everywhere in the code. Two labels are supported; parts that need a positive class, such
as thresholds, ask for `positive`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class LabelSet:
    """The labels of a run, in the order of their indices.

    `values` are the values of each label in the data, the first of which predictions are written with.
    `codes` are what the student writes, each one token at the label's place, and the keys in files.
    `positive` is the index of the positive class, None without one.
    """

    values: tuple[tuple[str, ...], ...]
    codes: tuple[str, ...]
    positive: int | None

    @staticmethod
    def binary(positive: tuple[str, ...] = (), negative: tuple[str, ...] = ()) -> LabelSet:
        """Return the labels 0 and 1, the second of which is positive, with their values in the data."""
        return LabelSet((negative, positive), ("0", "1"), positive=1)

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self)))

    def names(self, label: int) -> tuple[str, ...]:
        """Return all names of a label: its code, and its values in the data."""
        return (self.codes[label], *self.values[label])

    def written(self, label: int) -> str:
        """Return how predictions of a label are written: its first value in the data."""
        return next(iter(self.values[label]), self.codes[label])

    def title(self, label: int) -> str:
        """Return the name of a label in sentences: positive or negative if there is a positive class."""
        if self.positive is None:
            return self.written(label)
        return "positive" if label == self.positive else "negative"

    @property
    def negative(self) -> int:
        """The label that is not positive. Raises ValueError unless there are two, one of them positive."""
        if len(self) != 2 or self.positive is None:
            raise ValueError("only two labels, one of them positive, have a negative class")
        return 1 - self.positive

    def index(self, code: str) -> int | None:
        """Return the label with this code; None if there is none."""
        return self.codes.index(code) if code in self.codes else None

    @cached_property
    def pattern(self) -> str:
        """A regular expression that matches one code."""
        return "|".join(map(re.escape, self.codes))


BINARY = LabelSet.binary()
"""Two labels with their codes alone."""
