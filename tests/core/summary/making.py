"""Files of runs as this project writes them, with distinguishable numbers; predictions by example id."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core import jsonio
from core.evaluation.decision import Decision
from core.evaluation.metrics import Metrics
from core.evaluation.predictions import Generated
from core.export.run_files import SplitMetrics, write_predictions
from core.jsonio import parse
from core.records import SPLITS, Example, SplitName
from core.results import Ledger, RunResult, StudentLedger, TeacherTotals
from core.store import Store
from core.summary.run_records import MODES, Mode, metrics_path
from tests.core.evaluation.scored import Row, predictions

RUN_0_1 = Path(__file__).parent / "run_0_1"
"""Files of a finished run with reinforcement, written by version 0.1."""

CONFIG = """# The resolved config of this run; the comment says where each value comes from.
seed: 42  # default
student:
  engine:
    kind: local  # default
  model: some/model-8B  # a.yaml:3
  target: label_first  # default
  lora:
    rank: 16  # default
"""


def metrics(macro_f1: float | None = 0.9) -> Metrics:
    """Ten rows, eight of them right, with an MCC that has to be rounded up."""
    values = {
        "accuracy": 0.8,
        "balanced_accuracy": 0.75,
        "macro_f1": macro_f1,
        "f1": 2 / 3,
        "mcc": 0.12345,
        "precision": 1.0,
        "recall": 0.5,
        "auroc": None,
        "auprc": 0.5,
        "log_loss": 0.25,
        "brier": 0.125,
    }
    return Metrics(
        {
            **values,
            "tp": 2,
            "fp": 0,
            "fn": 2,
            "tn": 6,
            "decision_threshold": 0.5,
            "n": 10,
            "n_positive": 4,
            "invalid_label_rate": 0.0,
            "outside_mass": 0.001,
        },
        {"auroc": "the rows are of one class"},
    )


def metrics_file(
    run: str, split: SplitName = "test", mode: Mode = "reasoning", *, macro_f1: float | None = 0.9
) -> dict[str, Any]:
    """The content of a metrics file."""
    found = SplitMetrics(
        created_at="2026-11-20T10:00:00+00:00",
        checkpoint_path=f"objects/train/{run}/adapter",
        split=split,
        dataset_fingerprint="data1",
        config_fingerprint="measured1",
        decision_threshold_rule="val_max_macro_f1",
        decision_threshold=0.5,
        decision_threshold_reason="by definition",
        calibration="none",
        n=10,
        metrics=metrics(macro_f1),
        intervals={},
    )
    return {**found.to_json(), **({} if mode == "label_only" else {"predictions_path": f"{split}.json"})}


def put(store: Store, path: str, content: Any) -> None:
    """Write bytes, text, or a value as JSON."""
    if not isinstance(content, bytes | str):
        content = json.dumps(content, indent=2)
    store.backend.write(path, content if isinstance(content, bytes) else content.encode())


def write_run(
    store: Store,
    name: str,
    *,
    splits: Sequence[SplitName] = SPLITS,
    modes: Sequence[Mode] = MODES,
    macro_f1: float | None = 0.9,
) -> None:
    """Write only the metrics of a run."""
    for split in splits:
        for mode in modes:
            content = metrics_file(name, split, mode, macro_f1=macro_f1)
            put(store, f"runs/{name}/{metrics_path(split, mode)}", content)


def result(name: str) -> RunResult:
    """A result with costs and, like those of 0.1, without the student's settings and the code's version."""
    teacher = TeacherTotals(
        usd_of_the_run=1.5, prompt_tokens_of_the_run=1000, completion_tokens_of_the_run=200
    )
    student = StudentLedger(trained_tokens=10, prefilled_tokens=20, sampled_tokens=30, requests=1)
    figures = parse(RunResult, (RUN_0_1 / "run_summary.json").read_bytes())[0].teacher_summary
    assert figures is not None
    return RunResult(
        run_dir=f"runs/{name}",
        best_step=40,
        teacher_summary=figures.model_copy(update={"teacher_kind": "openai", "teacher_model": "big, model"}),
        ledger=Ledger(usd=1.5, teacher=teacher, student=student, seconds={"split": 0.5, "train": 20.0}),
    )


def write_facts(store: Store, name: str) -> None:
    """Write the files of a run other than its metrics."""
    made_by = {"version": "0.1.0", "commit": "c" * 40, "at": "then", "before": []}
    put(store, f"runs/{name}/run_summary.json", result(name).to_json())
    put(store, f"runs/{name}/resolved_config.yaml", CONFIG)
    put(store, f"runs/{name}/made_by.json", made_by)


GOLD = {"t1": 1, "t2": 0, "t3": 1, "t4": 0, "t5": 1}


def predicted(
    decisions: Mapping[str, int | None],
    gold: Mapping[str, int] = GOLD,
    texts: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """The records of a run as an export writes them; None is a text that a server failed on."""
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


def write_rows(store: Store, run: str, rows: Any, dataset: str = "data1") -> None:
    """Write a run with predictions of test."""
    put(store, f"runs/{run}/student_phase/test.json", rows)
    metrics = {**metrics_file(run), "dataset_fingerprint": dataset}
    put(store, f"runs/{run}/student_phase/metrics_test.json", metrics)
