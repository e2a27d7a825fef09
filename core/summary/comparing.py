"""`understudy compare`: two runs on one split, paired by example id, and what changed from A to B."""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import RootModel, TypeAdapter

from core import jsonio
from core.config.measure import METRICS
from core.data.writing import iter_examples
from core.errors import DataError, MissingInputError
from core.evaluation.bootstrap import Judged, bootstrap
from core.evaluation.comparison import Comparison, compare, signed_end, with_verdict
from core.evaluation.predictions import NO_PROBABILITY
from core.evaluation.significance import exact_interval
from core.jsonio import InvalidFile, Record, parse
from core.records import SplitName
from core.store.objects import Store
from core.store.runs import FOLDER, run_names
from core.summary.files import metrics_path, read_metrics
from core.summary.listing import missing_run
from core.summary.tables import csv_text, save

Outcome = Literal["fixed", "broken", "both_wrong", "both_right"]
OUTCOMES: Mapping[Outcome, str] = {
    "fixed": "fixed (A wrong, B right)",
    "broken": "broken (A right, B wrong)",
    "both_wrong": "both wrong",
    "both_right": "both right",
}
ACCURACY, MACRO_F1 = COMPARED = ("accuracy", "macro_f1")
LISTED = 10
"""Texts that are listed per outcome."""
_TEXT_WIDTH = 160
_COLUMNS = (
    *("outcome", "example_id", "gold", "a_predicted", "a_probability", "b_predicted", "b_probability"),
    *("text", "a_reasoning", "b_reasoning"),
)


class Predicted(Record):
    """A record of `{split}.json`; `predicted` is None if a server returned no score."""

    example_id: str
    text: str
    gold_label: Literal[0, 1]
    predicted: Literal[0, 1] | None
    probability: float | None = None
    reasoning: str | None = None


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
        """Which run is right."""
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


@dataclass(frozen=True, slots=True)
class Changes:
    """`metrics` are A's and B's, None if undefined; `comparison` is of B with A, None without texts."""

    paired: Paired
    counts: Mapping[Outcome, int]
    metrics: Mapping[str, tuple[float | None, float | None]]
    comparison: Comparison | None

    @property
    def verdict(self) -> str:
        """The conclusion about accuracy: a difference is claimed only if the test shows it."""
        if self.comparison is None or self.comparison.mcnemar is None:
            return "nothing to compare: no text is in both"
        d = self.comparison.differences[ACCURACY]
        assert d.value is not None, "paired rows have an accuracy"
        ends = ""
        if d.low is not None and d.high is not None:
            ends = f"95 % interval {signed_end(d.low)} to {signed_end(d.high)}; "
        grouped = "" if self.comparison.note is None else ", takes grouped rows as independent"
        test = f"McNemar's exact test{grouped}, p = {self.comparison.mcnemar.p:.3g}"
        numbers = f"{signed_end(d.value)} ({ends}{test})"
        if not d.shown:
            return f"no difference shown between B and A in accuracy: {numbers}"
        return f"{'B' if d.value > 0 else 'A'} is right more often: {numbers}"


def read_predictions(store: Store, run: str, split: SplitName) -> RunPredictions:
    """Read a run's predictions of a split.

    Raises MissingInputError if the run or the file does not exist, DataError if the file is invalid.
    """
    path = f"{FOLDER}/{run}/student_phase/{split}.json"
    found = store.backend.read(path)
    if found is None:
        if run in run_names(store):
            why = f"run {run} has no {store.where(path)}; its export was off, or left out this split"
            raise MissingInputError(why)
        raise missing_run(store, run)
    try:
        rows = parse(RootModel[tuple[Predicted, ...]], found.data)[0].root
    except InvalidFile as e:
        remedy = f"the command that made run {run} writes it again from the stored scores"
        raise DataError(f"{store.where(path)}: {e}; {remedy}") from e
    measured, dataset = store.backend.read(f"{FOLDER}/{run}/{metrics_path(split, 'reasoning')}"), None
    if measured is not None:
        with contextlib.suppress(InvalidFile):
            dataset = read_metrics(measured.data, split)[0].dataset_fingerprint
    return RunPredictions(run, split, dataset, rows, _groups(store, run, split))


def _groups(store: Store, run: str, split: SplitName) -> dict[str, str]:
    """Groups by example id; none if the split's file is missing."""
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


def pair(a: RunPredictions, b: RunPredictions) -> Paired:
    """Pair by example id; text and gold label have to be equal."""
    repeated: dict[str, str] = {}
    for name, each in (("A", a), ("B", b)):
        counts = Counter(row.example_id for row in each.rows)
        repeated |= {id_: f"{name} has it more than once" for id_, n in counts.items() if n > 1}
    in_a, in_b = ({row.example_id: row for row in each.rows} for each in (a, b))
    pairs, left_out = [], []
    for example_id in dict.fromkeys([*in_a, *in_b]):
        one, other = in_a.get(example_id), in_b.get(example_id)
        if example_id in repeated:
            left_out.append(LeftOut(example_id, repeated[example_id]))
        elif one is None or other is None:
            left_out.append(LeftOut(example_id, f"only {'B' if one is None else 'A'} has it"))
        elif one.text != other.text:
            left_out.append(LeftOut(example_id, "the text differs"))
        elif one.gold_label != other.gold_label:
            left_out.append(LeftOut(example_id, "the gold label differs"))
        elif missing := [run for run, each in (("A", one), ("B", other)) if each.predicted is None]:
            why = f"{' and '.join(missing)} got no score from the server"
            left_out.append(LeftOut(example_id, why))
        else:
            pairs.append(Pair(one, other))
    return Paired(a, b, pairs, left_out)


def changes(paired: Paired) -> Changes:
    """Compare B with A on their pairs; rows of a group are resampled together.

    Without groups, accuracy is decided by McNemar's exact test, whose p-value is printed.
    """
    pairs = paired.pairs
    outcomes = Counter(pair.outcome for pair in pairs)
    counts = {outcome: outcomes[outcome] for outcome in OUTCOMES}
    if not pairs:
        return Changes(paired, counts, dict.fromkeys(COMPARED, (None, None)), None)
    positive = np.array([pair.a.gold_label == 1 for pair in pairs], dtype=np.bool_)
    judged = []
    for rows in ([pair.b for pair in pairs], [pair.a for pair in pairs]):
        ranking = [NO_PROBABILITY if row.probability is None else row.probability for row in rows]
        predicted = np.array([row.predicted == 1 for row in rows], dtype=np.bool_)
        judged.append(Judged(np.array(ranking, dtype=np.float64), predicted))
    found = bootstrap(positive, judged, [paired.a.groups.get(pair.a.example_id) for pair in pairs])
    (comparison,) = compare(positive, ("B", "A"), judged, found)
    test, d = comparison.mcnemar, comparison.differences[ACCURACY]
    assert test is not None, "both runs have predictions"
    if not found.clustered:
        low, high = exact_interval(test)
        exact = replace(d, low=low, high=high, p=test.p, p_holm=test.p, p_adjusted=test.p, untested=None)
        differences = {**comparison.differences, ACCURACY: with_verdict(exact, comparison.a, comparison.b)}
        comparison = replace(comparison, differences=differences)
    points = {name: (found.point(1, name), found.point(0, name)) for name in COMPARED}
    metrics = {name: (None if a != a else a, None if b != b else b) for name, (a, b) in points.items()}
    return Changes(paired, counts, metrics, comparison)


def write(folder: Path, found: Changes) -> list[Path]:
    """Write comparison.json, changed.csv with all changed texts and left_out.csv. Raises StoreError."""
    changed = []
    for outcome in ("fixed", "broken", "both_wrong"):
        for a, b in ((pair.a, pair.b) for pair in found.paired.pairs if pair.outcome == outcome):
            decisions = (a.gold_label, a.predicted, a.probability, b.predicted, b.probability)
            changed.append((outcome, a.example_id, *decisions, a.text, a.reasoning, b.reasoning))
    left_out = ((each.example_id, each.why) for each in found.paired.left_out)
    return [
        save(jsonio.indented(_to_json(found)), folder / "comparison.json"),
        save(csv_text([_COLUMNS, *changed]), folder / "changed.csv"),
        save(csv_text([("example_id", "why"), *left_out]), folder / "left_out.csv"),
    ]


def _to_json(found: Changes) -> dict[str, Any]:
    """Return the content of `comparison.json`; differences are B's value minus A's."""
    paired = found.paired
    a, b = paired.a, paired.b
    return {
        "a": a.run,
        "b": b.run,
        "split": a.split,
        "dataset_fingerprint": {"a": a.dataset, "b": b.dataset, "same": paired.same_data},
        "n": len(paired.pairs),
        **{str(outcome): n for outcome, n in found.counts.items()},
        "verdict": found.verdict,
        "metrics": {name: {"a": a, "b": b} for name, (a, b) in found.metrics.items()},
        "comparison": TypeAdapter(Comparison | None).dump_python(found.comparison, mode="json"),
        "left_out": dict(Counter(each.why for each in paired.left_out)),
    }


def lines(found: Changes) -> Iterator[str]:
    """The comparison for a terminal: whether the data differ, numbers, changed texts, what is left out."""
    paired = found.paired
    a_data, b_data = paired.a.dataset, paired.b.dataset
    if a_data is None or b_data is None:
        who = " and ".join(name for name, digest in (("A", a_data), ("B", b_data)) if digest is None)
        yield f"It is not known whether both runs used the same split of the data: {who} does not record it"
    elif a_data != b_data:
        yield (
            f"The runs used different splits of the data (dataset fingerprints {a_data[:12]} and "
            f"{b_data[:12]}): test texts of one run may be train texts of the other; only texts that both "
            "have are compared"
        )
    yield f"A is run {_printable(paired.a.run)}, B is run {_printable(paired.b.run)}"
    yield f"{len(paired.pairs):,} texts of {paired.a.split} in both, with the same gold label"
    for outcome, count in found.counts.items():
        yield f"  {OUTCOMES[outcome]:<26}{count:>8,}"
    for name, (a, b) in found.metrics.items():
        yield f"  {METRICS.get(name).title:<10}A {_number(a)}  B {_number(b)}"
    yield found.verdict
    if found.comparison is not None:
        yield found.comparison.differences[MACRO_F1].verdict
        yield from [found.comparison.note] if found.comparison.note else []
    yield from _texts(paired, "fixed")
    yield from _texts(paired, "broken")

    reasons: dict[str, list[str]] = {}
    for each in paired.left_out:
        reasons.setdefault(each.why, []).append(_printable(each.example_id))
    yield from ["", "Left out:"] if reasons else []
    for why, ids in reasons.items():
        more = f" and {len(ids) - LISTED:,} more" if len(ids) > LISTED else ""
        yield f"  {len(ids):,}: {why} ({', '.join(ids[:LISTED])}{more})"


def _texts(paired: Paired, outcome: Outcome) -> Iterator[str]:
    found = [pair for pair in paired.pairs if pair.outcome == outcome]
    if not found:
        return
    yield ""
    yield f"{OUTCOMES[outcome]}{f', the first {LISTED} of {len(found):,}' if len(found) > LISTED else ''}:"
    for pair in found[:LISTED]:
        a, b = (f"{each.predicted} (P {_number(each.probability)})" for each in (pair.a, pair.b))
        text = " ".join(_printable(pair.a.text).split())
        shown = text if len(text) <= _TEXT_WIDTH else f"{text[: _TEXT_WIDTH - 1]}…"
        yield f"  {_printable(pair.a.example_id)}  gold {pair.a.gold_label}  A {a}  B {b}  {shown}"


def _printable(text: str) -> str:
    """One line without terminal control characters."""
    return "".join(c if c.isprintable() else " " for c in text)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
