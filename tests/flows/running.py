"""Runs of a flow from a config file, as the command line makes them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from core.config.loading import load

REPO = Path(__file__).resolve().parents[2]
# By log loss: so few rows of val have a threshold without an error even before anything is learnt.
REINFORCED = (
    "evaluation.metric=log_loss",
    "student.target=label_only",
    "student.steps=2",
    "reinforce.steps=6",
    "reinforce.interval=3",
    "reinforce.batch_size=4",
    "reinforce.group_size=4",
    "reinforce.max_new_tokens=12",
    "reinforce.learning_rate=0.02",
)
"""A student that answers in form, reinforced in two segments of three steps."""


def distill(config: Path, *overrides: str, **switches: Any) -> Any:
    """What the flow returns: where the report is, or its state where `return_state` asks for that."""
    from flows.distill import distill as flow

    return flow(load(config, list(overrides)).as_parameter(), **switches)


def run(config: Path, *overrides: str, **switches: Any) -> Path:
    """The folder of a run."""
    return Path(distill(config, *overrides, **switches)).parent


def environment() -> dict[str, str]:
    """What a process of its own needs to find our packages and the tests' Prefect server."""
    from prefect.settings import PREFECT_API_URL

    return {**os.environ, "PYTHONPATH": str(REPO), "PREFECT_API_URL": str(PREFECT_API_URL.value())}


def copied(config: Path, to: Path) -> Path:
    """Copy a config's folder with all that was made in it, times too; returns the copy's config."""
    shutil.copytree(config.parent, to, dirs_exist_ok=True)
    return to / config.name


def folder_of(config: Path) -> Path:
    """Where the run of the small project is."""
    return config.parent / "out/runs" / config.stem


def reinforce(config: Path, *overrides: str, **switches: Any) -> Path:
    """The folder of a reinforcement."""
    from flows.reinforce import reinforce as flow

    return Path(flow(load(config, list(overrides)).as_parameter(), **switches)).parent


def baseline(config: Path, *overrides: str, **switches: Any) -> Path:
    """The folder of the baselines."""
    from flows.baseline import baseline as flow

    return Path(flow(load(config, list(overrides)).as_parameter(), **switches)).parent
