"""From the values of a label column to labels."""

from __future__ import annotations

import math
from collections.abc import Iterable

from core.config.data import DataConfig

_BOOLEANS = {"true": 1.0, "false": 0.0}


class LabelMap:
    """Reads labels by name and, with a threshold, by number.

    With a threshold every number is judged by it, so that of 1 to 5 stars 1 is not read as the name
    "1"; other labels go by their names. Without it a number is the name it equals: 1.0 and True are
    "1" unless they are names themselves.
    """

    def __init__(self, config: DataConfig) -> None:
        self.threshold = config.label_threshold
        self.labels = config.labels
        self.names = {_plain(v): label for label in self.labels for v in self.labels.values[label]}
        self.numbers = _by_number(self.names.items())
        self._seen: dict[str, int | None] = {}

    def read(self, raw: str) -> int | None:
        """Return the label of a value; None if it is outside the map."""
        if raw not in self._seen:
            self._seen[raw] = self._judge(_plain(raw))
        return self._seen[raw]

    def _judge(self, name: str) -> int | None:
        number = _number(name)
        if self.threshold is not None and number is not None:
            above = number >= self.threshold
            return next(label for label in self.labels if (label == self.labels.positive) == above)
        if name in self.names:
            return self.names[name]
        return self.numbers.get(_BOOLEANS.get(name, math.nan) if number is None else number)


def _plain(name: str) -> str:
    return name.strip().casefold()


def _by_number(names: Iterable[tuple[str, int]]) -> dict[float, int]:
    numbers = ((_number(name), label) for name, label in names)
    return {number: label for number, label in numbers if number is not None}


def _number(name: str) -> float | None:
    try:
        value = float(name)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in name else None
