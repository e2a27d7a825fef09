"""Commands, and runs of a config file through Prefect, as the command line starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core.config.loading import load
from flows.cli import main
from tests.small_project import REPO


def distill(config: Path, *overrides: str, **switches: Any) -> Any:
    """Run the flow; return where the report is, or with `return_state` its state."""
    from flows.distill import distill as flow

    return flow(load(config, list(overrides)).as_parameter(), **switches)


def understudy(*arguments: object) -> int:
    """Run a command in this process; return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def environment() -> dict[str, str]:
    """The environment in which another process finds our packages and the tests' Prefect server."""
    from prefect.settings import PREFECT_API_URL

    return {**os.environ, "PYTHONPATH": str(REPO), "PREFECT_API_URL": str(PREFECT_API_URL.value())}


def started(*command: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start `understudy` in a new process group."""
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *command],
        env=environment() if env is None else env,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
