"""A run's `student_phase/{split}.json`, read back."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.data.writing import iter_examples
from core.errors import DataError, MissingInputError
from core.records import SplitName
from core.store.objects import Store
from core.store.runs import run_names
from core.summary.checking import Unusable, mapping, number, parse, required, text
from core.summary.measured import measured, place


@dataclass(frozen=True, slots=True)
class Predicted:
    """What a run decided on a text. `predicted` is None where a server gave no score."""

    example_id: str
    text: str
    gold: int
    predicted: int | None
    probability: float | None
    reasoning: str | None


@dataclass(frozen=True, slots=True)
class Predictions:
    """A run's predictions of one split. `dataset` is the digest of the data, None where it is not said."""

    run: str
    split: SplitName
    dataset: str | None
    rows: Sequence[Predicted]
    groups: Mapping[str, str] = field(default_factory=dict)
    """By example id, where the data have groups."""


def predictions(store: Store, run: str, split: SplitName) -> Predictions:
    """What a run left.

    Raises MissingInputError where there is no such run or file, DataError where the file is not
    what it should be.
    """
    path = f"runs/{run}/student_phase/{split}.json"
    found = store.backend.read(path)
    if found is None:
        raise MissingInputError(_missing(store, run, path))
    try:
        rows = _rows(parse(found.data)[0])
    except Unusable as e:
        remedy = f"the command that made run {run} writes it anew from what is kept"
        raise DataError(f"{store.where(path)}: {e}; {remedy}") from e
    return Predictions(run, split, _dataset(store, run, split), rows, _groups(store, run, split))


def _missing(store: Store, run: str, path: str) -> str:
    there = run_names(store)
    if run in there:
        return f"run {run} has no {store.where(path)}; its export was off, or left out this split"
    listed = f"there are: {', '.join(there)}" if there else "it has no runs"
    return f"there is no run {run} under {store.backend.url}; {listed}"


def _rows(value: Any) -> list[Predicted]:
    if not isinstance(value, list):
        raise Unusable("it is no list of predictions")
    return [_row(each, f"record {i}") for i, each in enumerate(value, 1)]


def _row(value: Any, name: str) -> Predicted:
    record = mapping(value, name)
    try:
        return Predicted(
            example_id=_given(record, "example_id"),
            text=_given(record, "text"),
            gold=_label(required(record, "gold_label")),
            predicted=None if required(record, "predicted") is None else _label(record["predicted"]),
            probability=number(record.get("probability"), "probability"),
            reasoning=text(record.get("reasoning"), "reasoning"),
        )
    except Unusable as e:
        raise Unusable(f"{name}: {e}") from e


def _given(record: dict[str, Any], name: str) -> str:
    found = text(required(record, name), name)
    if found is None:
        raise Unusable(f"it has no {name}")
    return found


def _label(value: Any) -> int:
    if isinstance(value, bool) or value not in (0, 1):
        raise Unusable(f"label {value!r} is neither 0 nor 1")
    return int(value)


def _dataset(store: Store, run: str, split: SplitName) -> str | None:
    """The data's digest as the metrics file has it; a file that is not usable says nothing."""
    found = store.backend.read(f"runs/{run}/{place(split, 'reasoning')}")
    if found is None:
        return None
    try:
        return measured(run, split, "reasoning", parse(found.data)[0]).dataset_fingerprint
    except Unusable:
        return None


def _groups(store: Store, run: str, split: SplitName) -> dict[str, str]:
    """Which rows belong together; none where the split's file is gone."""
    path = f"runs/{run}/data_splits/{split}.csv"
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder) / f"{split}.csv"
        try:
            store.backend.download(path, here)
        except FileNotFoundError:
            return {}
        try:
            return {e.id: e.group for e in iter_examples(here) if e.group is not None}
        except DataError as e:
            raise DataError(str(e).replace(str(here), store.where(path))) from e
