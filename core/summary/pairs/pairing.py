"""Two runs' predictions paired by example id, and what cannot be paired."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from core.summary.pairs.predictions import Predicted, Predictions

Outcome = Literal["fixed", "broken", "both_wrong", "both_right"]
OUTCOMES: tuple[Outcome, ...] = ("fixed", "broken", "both_wrong", "both_right")


@dataclass(frozen=True, slots=True)
class Pair:
    """The same text, judged by both runs."""

    a: Predicted
    b: Predicted

    @property
    def outcome(self) -> Outcome:
        """fixed: A is wrong and B right; broken: the other way round."""
        a, b = (each.predicted == each.gold for each in (self.a, self.b))
        if a == b:
            return "both_right" if a else "both_wrong"
        return "fixed" if b else "broken"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A text that is not compared, and why."""

    example_id: str
    why: str


@dataclass(frozen=True, slots=True)
class Paired:
    """Both runs' predictions, what is in both, in A's order, and what is not."""

    a: Predictions
    b: Predictions
    pairs: Sequence[Pair]
    left_out: Sequence[LeftOut]

    @property
    def same_data(self) -> bool | None:
        """Whether both were measured on the same split of the same data; None where it is not said."""
        if self.a.dataset is None or self.b.dataset is None:
            return None
        return self.a.dataset == self.b.dataset


def pair(a: Predictions, b: Predictions) -> Paired:
    """Pair by example id; text and gold label have to be the same."""
    again = {**_repeated(a, "A"), **_repeated(b, "B")}
    in_a, in_b = ({row.example_id: row for row in each.rows} for each in (a, b))
    pairs, left_out = [], []
    for example_id in dict.fromkeys([*in_a, *in_b]):
        one, other = in_a.get(example_id), in_b.get(example_id)
        why = again.get(example_id) or _why_not(one, other)
        if why is not None:
            left_out.append(LeftOut(example_id, why))
        elif one is not None and other is not None:
            pairs.append(Pair(one, other))
    return Paired(a, b, pairs, left_out)


def _why_not(a: Predicted | None, b: Predicted | None) -> str | None:
    if a is None or b is None:
        return "only B has it" if a is None else "only A has it"
    if a.text != b.text:
        return "the text differs"
    if a.gold != b.gold:
        return "the gold label differs"
    missing = [name for name, each in (("A", a), ("B", b)) if each.predicted is None]
    return f"{' and '.join(missing)} got no score from the server" if missing else None


def _repeated(of: Predictions, name: str) -> dict[str, str]:
    counts = Counter(row.example_id for row in of.rows)
    return {example_id: f"{name} has it more than once" for example_id, n in counts.items() if n > 1}
