"""RunPredictions of two runs on one split, paired by example id."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import RootModel

from core.data.writing import iter_examples
from core.errors import DataError, MissingInputError
from core.jsonio import InvalidFile, Record, parse
from core.records import SplitName
from core.store.objects import Store
from core.store.runs import FOLDER, run_names
from core.summary.files import metrics_path, read_metrics

Outcome = Literal["fixed", "broken", "both_wrong", "both_right"]
OUTCOMES: tuple[Outcome, ...] = ("fixed", "broken", "both_wrong", "both_right")
"""fixed: A is wrong and B right; broken: A is right and B wrong."""


class Predicted(Record):
    """A record of `{split}.json`; `predicted` is None if a server returned no score."""

    example_id: str
    text: str
    gold_label: Literal[0, 1]
    predicted: Literal[0, 1] | None
    probability: float | None = None
    reasoning: str | None = None


class _PredictionsFile(RootModel[tuple[Predicted, ...]]):
    pass


@dataclass(frozen=True, slots=True)
class RunPredictions:
    """A run's predictions of one split. `dataset` is the digest of the data, None if it is not recorded."""

    run: str
    split: SplitName
    dataset: str | None
    rows: Sequence[Predicted]
    groups: Mapping[str, str] = field(default_factory=dict)
    """Group by example id, if the data have groups."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The same text, predicted by both runs."""

    a: Predicted
    b: Predicted

    @property
    def outcome(self) -> Outcome:
        """Who is right."""
        a, b = (each.predicted == each.gold_label for each in (self.a, self.b))
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
    """The predictions of both runs, the texts that both have in A's order, and the others."""

    a: RunPredictions
    b: RunPredictions
    pairs: Sequence[Pair]
    left_out: Sequence[LeftOut]

    @property
    def same_data(self) -> bool | None:
        """Whether both were measured on the same split of the same data; None if it is not recorded."""
        if self.a.dataset is None or self.b.dataset is None:
            return None
        return self.a.dataset == self.b.dataset


def read_predictions(store: Store, run: str, split: SplitName) -> RunPredictions:
    """Read a run's predictions of a split.

    Raises MissingInputError if there is no such run or file, DataError if the file is invalid.
    """
    path = f"{FOLDER}/{run}/student_phase/{split}.json"
    found = store.backend.read(path)
    if found is None:
        names = run_names(store)
        if run in names:
            why = f"run {run} has no {store.where(path)}; its export was off, or left out this split"
            raise MissingInputError(why)
        listed = f"there are: {', '.join(names)}" if names else "it has no runs"
        raise MissingInputError(f"there is no run {run} under {store.backend.url}; {listed}")
    try:
        rows = parse(_PredictionsFile, found.data)[0].root
    except InvalidFile as e:
        remedy = f"the command that made run {run} writes it again from the stored scores"
        raise DataError(f"{store.where(path)}: {e}; {remedy}") from e
    return RunPredictions(run, split, _dataset(store, run, split), rows, _groups(store, run, split))


def pair(a: RunPredictions, b: RunPredictions) -> Paired:
    """Pair by example id; text and gold label have to be equal."""
    repeated = {**_repeated(a, "A"), **_repeated(b, "B")}
    in_a, in_b = ({row.example_id: row for row in each.rows} for each in (a, b))
    pairs, left_out = [], []
    for example_id in dict.fromkeys([*in_a, *in_b]):
        one, other = in_a.get(example_id), in_b.get(example_id)
        why = repeated.get(example_id) or _why_not(one, other)
        if why is not None:
            left_out.append(LeftOut(example_id, why))
        elif one is not None and other is not None:
            pairs.append(Pair(one, other))
    return Paired(a, b, pairs, left_out)


def _dataset(store: Store, run: str, split: SplitName) -> str | None:
    """The data's digest in the metrics file; None if that cannot be used."""
    found = store.backend.read(f"{FOLDER}/{run}/{metrics_path(split, 'reasoning')}")
    if found is None:
        return None
    try:
        return read_metrics(found.data, split)[0].dataset_fingerprint
    except InvalidFile:
        return None


def _groups(store: Store, run: str, split: SplitName) -> dict[str, str]:
    """Groups by example id; none if the split's file is gone."""
    path = f"{FOLDER}/{run}/data_splits/{split}.csv"
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / f"{split}.csv"
        try:
            store.backend.download(path, local)
        except FileNotFoundError:
            return {}
        try:
            return {e.id: e.group for e in iter_examples(local) if e.group is not None}
        except DataError as e:
            raise DataError(str(e).replace(str(local), store.where(path))) from e


def _why_not(a: Predicted | None, b: Predicted | None) -> str | None:
    if a is None or b is None:
        return "only B has it" if a is None else "only A has it"
    if a.text != b.text:
        return "the text differs"
    if a.gold_label != b.gold_label:
        return "the gold label differs"
    missing = [name for name, each in (("A", a), ("B", b)) if each.predicted is None]
    return f"{' and '.join(missing)} got no score from the server" if missing else None


def _repeated(predictions: RunPredictions, name: str) -> dict[str, str]:
    counts = Counter(row.example_id for row in predictions.rows)
    return {example_id: f"{name} has it more than once" for example_id, n in counts.items() if n > 1}
