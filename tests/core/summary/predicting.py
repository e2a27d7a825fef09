"""Distinguishable predictions: a run is given as example id -> decision."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core import jsonio
from core.evaluation.decision import Decision
from core.evaluation.predictions import Generated
from core.export.run_files import write_predictions
from core.records import Example
from core.store import Store
from tests.core.evaluation.scored import Row, predictions
from tests.core.summary.making import metrics_file, put

GOLD = {"t1": 1, "t2": 0, "t3": 1, "t4": 0, "t5": 1}


def predicted(
    decisions: Mapping[str, int | None],
    gold: Mapping[str, int] = GOLD,
    texts: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """The records of a run, as an export writes them; None is a text that a server failed on."""
    given = texts or {}
    examples = [Example(i, given.get(i, f"text of {i}"), gold[i]) for i in decisions]
    scored = [
        Row(
            i,
            gold[i],
            None if said is None else 0.25 + said / 2,
            generated=Generated(reasoning=f"since {i}"),
            error="lost" if said is None else None,
        )
        for i, said in decisions.items()
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "test.json"
        write_predictions(path, "test", examples, predictions(scored), Decision.by_definition(0.5))
        found: list[dict[str, Any]] = jsonio.read_json(path)
        return found


def write(store: Store, run: str, rows: Any, dataset: str = "data1") -> None:
    """A run with its predictions of test."""
    put(store, f"runs/{run}/student_phase/test.json", rows)
    metrics = {**metrics_file(run), "dataset_fingerprint": dataset}
    put(store, f"runs/{run}/student_phase/metrics_test.json", metrics)
