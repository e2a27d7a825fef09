"""Runs of a config file in this process, without Prefect, as `understudy.run` starts them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from core.config import ResolvedConfig
from core.config.loading import load
from core.pipeline import run as running
from core.pipeline.distillation import measure_baselines
from core.pipeline.opening import opened, reopened
from core.pipeline.runners import Runner, switches
from core.pipeline.smoke import Projection, full_split, projected, smoke_config
from core.summary.sweep_arms import load_sweep

REPO = Path(__file__).resolve().parents[2]
LABELS_ONLY = (
    "teacher={kind: gold}",
    "student.target=label_only",
    "student.steps=2",
    "evaluation.interval=2",
    "export.label_only=false",
    "export.splits=[test]",
    "baselines.other_prompt=false",
)
"""The least work that trains, measures and publishes a student."""
ONE_PROMPT = ("export.label_only=false", "export.splits=[test]", "baselines.other_prompt=false")
"""A student is measured in its own mode and on test only."""
# By log loss: so few rows of val have a threshold without an error even before anything is learned.
REINFORCED = (
    "evaluation.metric=log_loss",
    "student.target=label_only",
    "student.steps=2",
    "export.label_only=false",
    "baselines.other_prompt=false",
    "reinforce.steps=6",
    "reinforce.interval=3",
    "reinforce.batch_size=4",
    "reinforce.group_size=4",
    "reinforce.max_new_tokens=12",
    "reinforce.learning_rate=0.02",
)
"""A student that answers in form, reinforced in two segments of three steps."""


def run(config: Path, *overrides: str, new: bool = False, **switches: Sequence[str]) -> Path:
    """Run the pipeline; return the run's folder."""
    resolved = load(config, list(overrides))
    running.run(resolved, new=new, **switches)
    return _folder(resolved)


def smoke(config: Path, rows: int, *overrides: str, only: Sequence[str] = ()) -> Projection:
    """What the full run will take, by a smoke run; both as the command line starts them."""
    full = load(config, list(overrides))
    small, parts = smoke_config(full, rows), full_split(full, rows)
    running.run(small, only=only, new=True)
    return projected(full, parts, small.run_name)


def reinforce(config: Path, *overrides: str, start: str | None = None, replace: bool = False) -> Path:
    """Reinforce; return the folder."""
    resolved = load(config, list(overrides))
    running.reinforce(resolved, start, replace=replace)
    return _folder(resolved) / "rl_phase"


def baseline(config: Path, *overrides: str, skip: Sequence[str] = ()) -> Path:
    """Measure the baselines; return their folder."""
    resolved = load(config, list(overrides))
    with opened(resolved, switches(resolved.config.stages, skip=skip), Runner) as started:
        measure_baselines(started)
    return _folder(resolved) / "baseline_phase"


def evaluate_checkpoint(name: str, checkpoint: str = "best") -> Path:
    """Evaluate a checkpoint of a run under out/; return the folder with its metrics."""
    with reopened("out", name, Runner) as started:
        return Path(running.evaluate_checkpoint(started, checkpoint))


def sweep(file: Path, *overrides: str) -> Path:
    """Run a sweep; return its folder."""
    arms = load_sweep(file, list(overrides))
    return Path(running.run_sweep(arms, running.run, lambda *_: None)).parent


def _folder(resolved: ResolvedConfig) -> Path:
    return Path(resolved.config.run.root).absolute() / "runs" / resolved.run_name


def copied(config: Path, to: Path) -> Path:
    """Copy a config's folder with everything in it, times too; returns the copy's config."""
    shutil.copytree(config.parent, to, dirs_exist_ok=True)
    return to / config.name


def folder_of(config: Path) -> Path:
    """The folder of the small project's run."""
    return config.parent / "out/runs" / config.stem


def objects(root: Path) -> dict[Path, int]:
    """Every manifest under a root, with the time it was written."""
    return {path: path.stat().st_mtime_ns for path in (root / "objects").glob("*/*.json")}
