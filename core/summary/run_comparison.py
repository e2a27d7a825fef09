"""`understudy compare`: two runs on one split, paired by example id, and what changed from A to B."""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import RootModel, TypeAdapter

from core import jsonio
from core.config import METRICS
from core.errors import DataError, MissingInputError
from core.evaluation.bootstrap import Judged, bootstrap
from core.evaluation.comparison import Comparison, compare, signed_end, with_verdict
from core.evaluation.predictions import NO_PROBABILITY
from core.intervals import exact_interval
from core.jsonio import InvalidFile, Record, parse
from core.records import BINARY, SplitName, iter_examples
from core.store import Store, run_names
from core.store.run_view import FOLDER
from core.summary.run_records import metrics_path, missing_run, read_metrics
from core.summary.summarize import csv_text, save

Outcome = Literal["fixed", "broken", "both_wrong", "both_right"]
OUTCOMES: Mapping[Outcome, str] = {
    "fixed": "fixed (A wrong, B right)",
    "broken": "broken (A right, B wrong)",
    "both_wrong": "both wrong",
    "both_right": "both right",
}
_OUTCOME_OF: Mapping[tuple[bool, bool], Outcome] = {
    (False, True): "fixed",
    (True, False): "broken",
    (False, False): "both_wrong",
    (True, True): "both_right",
}
"""By whether A and B are right."""
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

    @property
    def right(self) -> bool:
        return self.predicted == self.gold_label


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
class RunComparison:
    """Two runs on the texts that both have, with the same text and gold label.

    `pairs` are (A's, B's) predictions in A's order, `left_out` the reasons by example id of the other texts.
    `metrics` are A's and B's, None if undefined; `comparison` is of B with A, None without pairs.
    """

    a: RunPredictions
    b: RunPredictions
    pairs: Mapping[Outcome, Sequence[tuple[Predicted, Predicted]]]
    left_out: Mapping[str, str]
    metrics: Mapping[str, tuple[float | None, float | None]]
    comparison: Comparison | None

    @property
    def same_data(self) -> bool | None:
        """Whether both were measured on the same split of the same data; None if it is not recorded."""
        if self.a.dataset is None or self.b.dataset is None:
            return None
        return self.a.dataset == self.b.dataset

    @property
    def verdict(self) -> str:
        """The conclusion about accuracy: a difference is claimed only if the test shows it."""
        if self.comparison is None or self.comparison.mcnemar is None:
            return "nothing to compare: no text is in both"
        d, ends = self.comparison.differences[ACCURACY], ""
        assert d.value is not None, "paired rows have an accuracy"
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
    return RunPredictions(
        run, split, dataset, rows, _groups(store, f"{FOLDER}/{run}/data_splits/{split}.csv")
    )


def _groups(store: Store, path: str) -> dict[str, str]:
    """Groups by example id; none if the split's file is missing."""
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / "split.csv"
        try:
            store.backend.download(path, local)
        except FileNotFoundError:
            return {}
        try:
            return {e.id: e.group for e in iter_examples(local) if e.group is not None}
        except DataError as e:
            raise DataError(str(e).replace(str(local), store.where(path))) from e


def compare_runs(a: RunPredictions, b: RunPredictions) -> RunComparison:
    """Compare B with A on the texts that both have; rows of a group are resampled together.

    Without groups, accuracy is decided by McNemar's exact test, whose p-value is printed.
    """
    repeated: dict[str, str] = {}
    for name, each in (("A", a), ("B", b)):
        counts = Counter(row.example_id for row in each.rows)
        repeated |= {id_: f"{name} has it more than once" for id_, n in counts.items() if n > 1}
    in_a, in_b = ({row.example_id: row for row in each.rows} for each in (a, b))
    pairs: dict[Outcome, list[tuple[Predicted, Predicted]]] = {outcome: [] for outcome in OUTCOMES}
    both, left_out = list[tuple[Predicted, Predicted]](), dict[str, str]()
    for id_ in dict.fromkeys([*in_a, *in_b]):
        one, other = in_a.get(id_), in_b.get(id_)
        if id_ in repeated:
            left_out[id_] = repeated[id_]
        elif one is None or other is None:
            left_out[id_] = f"only {'B' if one is None else 'A'} has it"
        elif one.text != other.text:
            left_out[id_] = "the text differs"
        elif one.gold_label != other.gold_label:
            left_out[id_] = "the gold label differs"
        elif missing := [run for run, each in (("A", one), ("B", other)) if each.predicted is None]:
            left_out[id_] = f"{' and '.join(missing)} got no score from the server"
        else:
            both.append((one, other))
            pairs[_OUTCOME_OF[one.right, other.right]].append((one, other))
    return RunComparison(a, b, pairs, left_out, *_measure(both, a.groups))


def _measure(
    pairs: Sequence[tuple[Predicted, Predicted]], groups: Mapping[str, str]
) -> tuple[Mapping[str, tuple[float | None, float | None]], Comparison | None]:
    """Metrics of A and B, and the comparison of B with A."""
    if not pairs:
        return dict.fromkeys(COMPARED, (None, None)), None
    ones, others = zip(*pairs, strict=True)
    positive = np.array([row.gold_label == BINARY.positive for row in ones], dtype=np.bool_)
    judged = []
    for rows in (others, ones):
        ranking = [NO_PROBABILITY if row.probability is None else row.probability for row in rows]
        predicted = np.array([row.predicted == BINARY.positive for row in rows], dtype=np.bool_)
        judged.append(Judged(np.array(ranking, dtype=np.float64), predicted))
    found = bootstrap(positive, judged, [groups.get(row.example_id) for row in ones])
    (comparison,) = compare(positive, ("B", "A"), judged, found)
    test, d = comparison.mcnemar, comparison.differences[ACCURACY]
    assert test is not None, "both runs have predictions"
    if not found.clustered:
        low, high = exact_interval(test)
        exact = replace(d, low=low, high=high, p=test.p, p_holm=test.p, p_adjusted=test.p, untested=None)
        differences = {**comparison.differences, ACCURACY: with_verdict(exact, comparison.a, comparison.b)}
        comparison = replace(comparison, differences=differences)
    points = {name: (found.point(1, name), found.point(0, name)) for name in COMPARED}
    return {
        name: (None if a != a else a, None if b != b else b) for name, (a, b) in points.items()
    }, comparison


def write(folder: Path, found: RunComparison) -> list[Path]:
    """Write comparison.json, changed.csv with all changed texts and left_out.csv. Raises StoreError."""
    a, b = found.a, found.b
    content = {
        "a": a.run,
        "b": b.run,
        "split": a.split,
        "dataset_fingerprint": {"a": a.dataset, "b": b.dataset, "same": found.same_data},
        "n": sum(map(len, found.pairs.values())),
        **{str(outcome): len(pairs) for outcome, pairs in found.pairs.items()},
        "verdict": found.verdict,
        "metrics": {name: {"a": of_a, "b": of_b} for name, (of_a, of_b) in found.metrics.items()},
        "comparison": TypeAdapter(Comparison | None).dump_python(found.comparison, mode="json"),
        "left_out": dict(Counter(found.left_out.values())),
    }
    changed = []
    for outcome, pairs in found.pairs.items():
        for one, other in pairs if outcome != "both_right" else ():
            decisions = (one.gold_label, one.predicted, one.probability, other.predicted, other.probability)
            changed.append((outcome, one.example_id, *decisions, one.text, one.reasoning, other.reasoning))
    return [
        save(jsonio.indented(content), folder / "comparison.json"),
        save(csv_text([_COLUMNS, *changed]), folder / "changed.csv"),
        save(csv_text([("example_id", "why"), *found.left_out.items()]), folder / "left_out.csv"),
    ]


def lines(found: RunComparison) -> Iterator[str]:
    """The comparison for a terminal: whether the data differ, numbers, changed texts, what is left out."""
    a, b = found.a, found.b
    if a.dataset is None or b.dataset is None:
        who = " and ".join(name for name, each in (("A", a), ("B", b)) if each.dataset is None)
        yield f"It is not known whether both runs used the same split of the data: {who} does not record it"
    elif a.dataset != b.dataset:
        yield (
            f"The runs used different splits of the data (dataset fingerprints {a.dataset[:12]} and "
            f"{b.dataset[:12]}): test texts of one run may be train texts of the other; only texts that both "
            "have are compared"
        )
    yield f"A is run {_printable(a.run)}, B is run {_printable(b.run)}"
    yield f"{sum(map(len, found.pairs.values())):,} texts of {a.split} in both, with the same gold label"
    for outcome, pairs in found.pairs.items():
        yield f"  {OUTCOMES[outcome]:<26}{len(pairs):>8,}"
    for name, (of_a, of_b) in found.metrics.items():
        yield f"  {METRICS.get(name).title:<10}A {_number(of_a)}  B {_number(of_b)}"
    yield found.verdict
    if found.comparison is not None:
        yield found.comparison.differences[MACRO_F1].verdict
        yield from [found.comparison.note] if found.comparison.note else []
    for outcome in ("fixed", "broken"):
        if pairs := found.pairs[outcome]:
            first = f", the first {LISTED} of {len(pairs):,}" if len(pairs) > LISTED else ""
            yield from ["", f"{OUTCOMES[outcome]}{first}:"]
            yield from (_line(one, other) for one, other in pairs[:LISTED])
    reasons = defaultdict[str, list[str]](list)
    for id_, why in found.left_out.items():
        reasons[why].append(_printable(id_))
    yield from ["", "Left out:"] if reasons else []
    for why, ids in reasons.items():
        more = f" and {len(ids) - LISTED:,} more" if len(ids) > LISTED else ""
        yield f"  {len(ids):,}: {why} ({', '.join(ids[:LISTED])}{more})"


def _line(a: Predicted, b: Predicted) -> str:
    text = " ".join(_printable(a.text).split())
    shown = text if len(text) <= _TEXT_WIDTH else f"{text[: _TEXT_WIDTH - 1]}…"
    of_a, of_b = (f"{each.predicted} (P {_number(each.probability)})" for each in (a, b))
    return f"  {_printable(a.example_id)}  gold {a.gold_label}  A {of_a}  B {of_b}  {shown}"


def _printable(text: str) -> str:
    """One line without terminal control characters."""
    return "".join(c if c.isprintable() else " " for c in text)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
