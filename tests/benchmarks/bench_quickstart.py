"""The quickstart after installation, from an empty root: how long, and what the student reaches."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CONFIG = "configs/quickstart.yaml"
ROW = "  {:<42} {:>7} {:>9} {:>9}"


def main() -> None:
    with tempfile.TemporaryDirectory() as root:
        first = timed(root)
        print(f"from nothing {first:.0f} s (goal at most 600), again {timed(root):.0f} s (goal at most 60)")
        show(json.loads((Path(root) / "runs/quickstart/run_summary.json").read_text()))


def timed(root: str) -> float:
    """Seconds that one run takes."""
    command = [sys.executable, "-m", "flows.cli", "run", CONFIG, "--set", f"run.root={root}"]
    started = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    return time.monotonic() - started


def show(summary: dict[str, Any]) -> None:
    """Everybody on test, and where the time went."""
    print(ROW.format("on test", "AUROC", "macro-F1", "log loss"))
    for baseline in summary["baselines"].values():
        line(baseline["title"], baseline["metrics"]["test"])
    line("untrained student", summary["untrained"]["test"])
    line(f"student, step {summary['best_step']}", summary["test"]["student"])
    line("student, label-only prompt", summary["test"]["label_only"])
    print("seconds:", ", ".join(f"{name} {took:.0f}" for name, took in summary["timings"].items()))


def line(title: str, metrics: dict[str, Any]) -> None:
    numbers = (metrics[name] for name in ("auroc", "macro_f1", "log_loss"))
    print(ROW.format(title, *(f"{n:.3f}" if n is not None else "-" for n in numbers)))


if __name__ == "__main__":
    main()
