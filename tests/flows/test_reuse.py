"""What is made once is made for every run and every machine under the root, on disk and on S3."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core import durable
from core.store import RunView, Store, pointers
from tests.flows.running import distill

pytestmark = pytest.mark.usefixtures("prefect_server")

REPO = Path(__file__).resolve().parents[2]


def run(config: Path, root: str, *overrides: str) -> str:
    return str(distill(config, f"run.root={root}", *overrides))


@pytest.fixture(params=["disk", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A root, and no copies of it."""
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "cache"))
    if request.param == "disk":
        return str(tmp_path / "out")
    url: str = request.getfixturevalue("s3_root")
    return url


def manifests(store: Store) -> dict[str, float]:
    """Every manifest and when it was written."""
    return {f.path: f.modified for f in store.backend.list("objects") if f.path.count("/") == 2}


def reused(store: Store, name: str) -> dict[str, bool]:
    """Of each stage of a run, whether it was there already."""
    return {slot: entry.reused for slot, entry in RunView(store, name).stages().items()}


def watched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """From now on collects calls of the teacher and uses of the engine; creating an engine loads nothing."""
    from core.engines.local import LocalEngine

    calls: list[str] = []

    def passing(name: str, about: str) -> None:
        if name in (durable.TEACHER_ASKED, durable.STEP_SUBMITTED):
            calls.append(name)

    def refused(self: LocalEngine, *arguments: Any, **options: Any) -> None:
        calls.append("engine")

    monkeypatch.setattr(durable, "on_failpoint", passing)
    monkeypatch.setattr(LocalEngine, "open", refused)
    monkeypatch.setattr(LocalEngine, "sampler", refused)
    return calls


def test_a_run_under_any_root_leaves_a_report_and_pointers_that_hold(project: Path, root: str) -> None:
    report = run(project, root)
    store = Store.at(root)
    assert report == store.where("runs/small/report.html")
    assert (RunView(store, "small").read("test_report.md") or "").startswith("#")
    assert "<!doctype html>" in (RunView(store, "small").read("report.html") or "").lower()
    assert "evaluate step 6" in (RunView(store, "small").read("train.log") or "")
    found = pointers.read(store)
    assert found is not None
    for path in (found["final_model_path"], found["run_dir"]):
        assert store.backend.list(path)
    assert store.backend.read(found["metrics_path"]) is not None
    assert {f.path.split("/")[1] for f in store.backend.list("cache")} >= {"split", "train", "export"}


@pytest.mark.parametrize(
    "root",
    ["disk", pytest.param("s3", marks=pytest.mark.slow)],
    indirect=True,
)
def test_the_same_again_and_another_run_ask_neither_teacher_nor_engine(
    project: Path, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(project, root)
    store = Store.at(root)
    before, calls = manifests(store), watched(monkeypatch)
    run(project, root)
    run(project, root, "run.name=another", "run.log_level=WARNING")
    assert calls == []
    assert manifests(store) == before
    assert all(reused(store, "small").values())
    assert all(reused(store, "another").values())


@pytest.mark.parametrize("root", ["s3"], indirect=True)
def test_another_machine_with_an_empty_prefect_database_reuses_everything(
    project: Path, root: str, tmp_path: Path
) -> None:
    run(project, root)
    store = Store.at(root)
    before = manifests(store)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("texts.csv", "answers.jsonl", "small.yaml"):
        shutil.copy(project.parent / name, elsewhere / name)
    shutil.copytree(project.parent / "rules", elsewhere / "rules")
    env = {
        **{k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")},
        "PREFECT_HOME": str(tmp_path / "another-prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "UNDERSTUDY_CACHE": str(tmp_path / "another-cache"),
        "PYTHONPATH": str(REPO),
    }
    command = [sys.executable, "-m", "flows.cli", "run", "small.yaml", "--set", f"run.root={root}"]
    done = subprocess.run(command, cwd=elsewhere, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "run: " not in done.stderr
    assert manifests(store) == before
    assert all(reused(store, "small").values())
    summary = json.loads(RunView(store, "small").read("run_summary.json") or "")
    assert summary["run_dir"] == "runs/small"
