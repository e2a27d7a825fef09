"""Which words mean which label: many names, one map."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_WORDS: Mapping[str, int] = {
    "positive": 1,
    "yes": 1,
    "true": 1,
    "negative": 0,
    "no": 0,
    "false": 0,
}
_AROUND = " \t\r\n\"'`*.,:;()[]"


@dataclass(frozen=True, slots=True)
class LabelNames:
    """Names of the two labels, upper and lower case being one."""

    by_name: Mapping[str, int]

    @classmethod
    def of(cls, labels: Mapping[str, int], positive: Iterable[str], negative: Iterable[str]) -> LabelNames:
        """The config's own map first, then 0 and 1, then the data's names, then common words."""
        names = dict(_WORDS)
        names.update({n.strip().casefold(): 1 for n in positive})
        names.update({n.strip().casefold(): 0 for n in negative})
        names.update({"0": 0, "1": 1})
        names.update({n.strip().casefold(): label for n, label in labels.items()})
        return cls(names)

    def read(self, value: Any) -> int | None:
        """The label that a JSON value or a word names, None where it names neither.

        Marks around a word (quotes, full stops, asterisks) do not matter.
        """
        if isinstance(value, float):
            value = int(value) if value in (0.0, 1.0) else None
        if isinstance(value, bool | int):
            value = str(value)
        if not isinstance(value, str):
            return None
        word = value.strip().casefold()
        found = self.by_name.get(word)
        return found if found is not None else self.by_name.get(word.strip(_AROUND))
