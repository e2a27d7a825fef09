"""OpenMP threads wait passively in every process that imports the package, unless a policy is set."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
# The library that torch loads prints what it took from the environment.
LOAD = """
import ctypes, importlib.util, pathlib, sys
folder = pathlib.Path(importlib.util.find_spec("torch").submodule_search_locations[0]) / "lib"
assert "torch" not in sys.modules, "torch was imported before"
ctypes.CDLL(str(next(folder.glob("libgomp*"))))
"""


def runtime_settings(code: str, **variables: str) -> str:
    """What libgomp reports of its settings in a process that runs the code before it loads it."""
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    env = {k: v for k, v in os.environ.items() if k not in names}
    env = {**env, **variables, "PYTHONPATH": str(REPO), "OMP_DISPLAY_ENV": "VERBOSE"}
    command = [sys.executable, "-c", code + LOAD]
    found = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return found.stderr


@pytest.fixture(autouse=True)
def libgomp() -> None:
    """Other builds of torch have another runtime, which reports nothing."""
    spec = importlib.util.find_spec("torch")
    places = list(spec.submodule_search_locations or []) if spec else []
    if not places or not list((Path(places[0]) / "lib").glob("libgomp*")):
        pytest.skip("torch brings no libgomp here")


@pytest.mark.parametrize(
    "code",
    [
        "from core.predict import load",
        "import core.config.loading",
        "import flows",
        "from flows.cli import main",
    ],
)
def test_importing_the_package_sets_passive_waiting(code: str) -> None:
    shown = runtime_settings(code)
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in shown
    assert "GOMP_SPINCOUNT = '0'" in shown


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"OMP_WAIT_POLICY": "active"}, "OMP_WAIT_POLICY = 'ACTIVE'"),
        ({"GOMP_SPINCOUNT": "1234"}, "GOMP_SPINCOUNT = '1234'"),
    ],
)
def test_existing_wait_policy_is_kept(variables: dict[str, str], line: str) -> None:
    assert line in runtime_settings("import core", **variables)


def test_settings_of_other_openmp_runtimes_are_kept() -> None:
    code = "import os, core; assert 'OMP_WAIT_POLICY' not in os.environ"
    assert runtime_settings(code, KMP_BLOCKTIME="200")


def test_child_processes_inherit_passive_waiting() -> None:
    code = (
        "import core, subprocess, sys; subprocess.run([sys.executable, '-c', {!r}], check=True); sys.exit()"
    )
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in runtime_settings(code.format(LOAD))
