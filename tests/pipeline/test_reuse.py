"""Objects are built once for all runs and machines under a root, on disk and on S3."""

from __future__ import annotations

import shutil
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

from core import durable
from core.store import RunView, Store, pointers
from tests.pipeline import running
from tests.pipeline.running import LABELS_ONLY


def run(config: Path, root: str, *overrides: str) -> None:
    running.run(config, *LABELS_ONLY, f"run.root={root}", *overrides)


def manifests(store: Store) -> dict[str, float]:
    """Every manifest and when it was written."""
    return {f.path: f.modified for f in store.backend.list("objects") if f.path.count("/") == 2}


def reused(store: Store, name: str) -> dict[str, bool]:
    """Whether each stage of a run was reused."""
    return {slot: entry.reused for slot, entry in RunView(store, name).stages().items()}


def watched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect calls of the teacher and uses of the engine from now on; creating an engine loads nothing."""
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


def test_a_run_under_any_root_has_a_valid_report_and_pointers_and_is_reused(
    project: Path, root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(project, root)
    store = Store.at(root)
    assert (RunView(store, "small").read("test_report.md") or "").startswith("#")
    assert "<!doctype html>" in (RunView(store, "small").read("report.html") or "").lower()
    assert "evaluate step 2" in (RunView(store, "small").read("train.log") or "")
    found = pointers.read(store)
    assert found is not None
    for path in (found["final_model_path"], found["run_dir"]):
        assert store.backend.list(path)
    assert store.backend.read(found["metrics_path"]) is not None

    before, calls = manifests(store), watched(monkeypatch)
    run(project, root, "run.name=another", "run.log_level=WARNING")
    assert all(reused(store, "another").values())

    # Another machine has the config, the data and a cache of its own.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("texts.csv", "answers.jsonl", "small.yaml"):
        shutil.copy(project.parent / name, elsewhere / name)
    shutil.copytree(project.parent / "rules", elsewhere / "rules")
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "another-cache"))
    with chdir(elsewhere):
        run(elsewhere / "small.yaml", root)
    assert all(reused(store, "small").values())
    assert calls == []
    assert manifests(store) == before
