"""One run through Prefect: its task runs, their graph, its log lines and its pages."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prefect.artifacts import Artifact

from core.errors import Part
from core.store import RunView, Store
from flows import runtime
from tests.flows.running import distill
from tests.pipeline.running import LABELS_ONLY, copied, folder_of, objects
from tests.pipeline.running import run as run_inline
from tests.small_project import REPO, write_project

pytestmark = pytest.mark.usefixtures("prefect_server")

LINE = re.compile(r"\d{4}-\d\d-\d\d [\d:,]+ (?P<level>[A-Z]+) (?P<logger>[\w.]+): (?P<message>.*)")
SETTINGS = ("export.label_only=false", "export.splits=[test]", "student.steps=4")


class Ended(NamedTuple):
    """A run through Prefect: the project's config, the flow run's state, and its artifacts by key."""

    config: Path
    state: Any
    artifacts: dict[str, Any]


@pytest.fixture(scope="module")
def ended(prefect_server: None, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """A run of the small project, which no test changes."""
    config = write_project(tmp_path_factory.mktemp("prefect-run"), tiny_model)
    keys = ("test-report", "scorers", "learning-curve", "report-page", "model-pointer")
    with chdir(config.parent):
        state = distill(config, *SETTINGS, return_state=True)
        return Ended(config, state, {key: Artifact.get(key) for key in keys})


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def soon(check: Callable[[], bool]) -> None:
    """Wait for what the server records with a delay."""
    until = time.monotonic() + 30
    while not check() and time.monotonic() < until:
        time.sleep(0.5)


def parents(state: Any) -> dict[str, set[str]]:
    """The names of the task runs that each task run depends on, by its name."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.client.schemas.objects import TaskRunResult

    chosen = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
    runs: list[Any] = []

    def recorded() -> bool:
        with get_client(sync_client=True) as client:
            runs[:] = client.read_task_runs(flow_run_filter=chosen)
        return "publish" in {run.name for run in runs}

    soon(recorded)
    names = {run.id: run.name for run in runs}
    inputs = {run.name: run.task_inputs.get("wait_for", []) for run in runs}
    return {
        name: {names[each.id] for each in found if isinstance(each, TaskRunResult)}
        for name, found in inputs.items()
    }


def test_each_stage_depends_on_the_stages_whose_objects_it_reads(
    ended: Ended, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = parents(ended.state)
    assert found["split"] == set()
    assert found["sample"] == {"split"}
    assert found["reject"] == {"split", "sample"}
    assert found["encode"] == {"reject"}
    assert found["train steps 3 to 4 of 4"] == {"train steps 1 to 2 of 4"}
    assert found["evaluate step 4 on val"] == {"split", "train steps 3 to 4 of 4"}
    assert {"split", "baseline"} <= found["decide the threshold of tfidf_words"]
    assert {"analyse student on test", "reject", "encode"} <= found["bundle the student"]
    assert "bundle the student" in found["report"]
    assert "report" in found["publish"]
    assert [name for name, of in found.items() if not of and name != "train steps 1 to 2 of 4"] == ["split"]

    # Stages that are reused have the same edges, whether Prefect has a record of them or not.
    monkeypatch.chdir(tmp_path)
    config = copied(ended.config, tmp_path)
    root = tmp_path / "out"
    assert {p.name for p in (root / "cache").iterdir()} >= {"split", "train", "export"}
    made = objects(root)
    assert parents(distill(config, *SETTINGS, return_state=True)) == found
    shutil.rmtree(root / "cache")
    distill(config, *SETTINGS)
    assert objects(root) == made
    stages = read(folder_of(config) / "stages.json")
    assert all(entry["reused"] for entry in stages.values())


def test_a_run_without_prefect_makes_the_same_objects(
    ended: Ended, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = copied(ended.config, tmp_path)
    monkeypatch.chdir(tmp_path)
    made = objects(tmp_path / "out")
    run_inline(config, *SETTINGS)
    assert objects(tmp_path / "out") == made


def test_train_log_and_prefect_have_the_same_lines(ended: Ended) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId

    of_it = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[ended.state.state_details.flow_run_id]))

    def in_prefect() -> list[str]:
        with get_client(sync_client=True) as client:
            logs = client.read_logs(log_filter=of_it, limit=200)
        return sorted(log.message for log in logs if log.name.split(".")[0] in ("core", "tasks", "flows"))

    text = (folder_of(ended.config) / "train.log").read_text()
    written = sorted(m["message"] for m in map(LINE.fullmatch, text.splitlines()) if m)
    assert "evaluate step 4 on val: run: not cached" in written
    soon(lambda: in_prefect() == written)  # they are sent in batches
    assert in_prefect() == written


def test_the_artifacts_of_a_run_are_report_scorers_curve_and_links(ended: Ended) -> None:
    folder, shown = folder_of(ended.config), ended.artifacts
    analysis = read(folder / "student_phase/analysis.json")
    table = json.loads(str(shown["scorers"].data))
    assert [row["scorer"] for row in table] == [s["title"] for s in analysis["scorers"].values()]
    auroc = analysis["scorers"]["student"]["intervals"]["auroc"]["value"]
    assert table[0]["AUROC"].startswith(f"{auroc:.3f}")
    assert shown["test-report"].data == (folder / "test_report.md").read_text()
    picture = str(shown["learning-curve"].data).removeprefix("data:image/png;base64,")
    assert base64.b64decode(picture) == (folder / "student_phase/learning_curve.png").read_bytes()
    assert str(folder / "report.html") in str(shown["report-page"])
    assert f"model/{folder.name}.json" in str(shown["model-pointer"])


def test_a_failed_artifact_is_named_in_the_report_and_the_run_finishes(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **named: object) -> Iterator[None]:
        raise RuntimeError("no page")

    monkeypatch.setattr(runtime, "create_table_artifact", broken)
    distill(finished)
    folder = folder_of(finished)
    (failed,) = read(folder / "run_summary.json")["failed_parts"]
    assert failed == {"part": f"{Part.ARTIFACT}: scorers", "error": "RuntimeError", "message": "no page"}
    assert f"{Part.ARTIFACT}: scorers" in (folder / "test_report.md").read_text()
    assert read(folder / "run_state.json")["state"] == "finished"


@pytest.mark.parametrize("root", ["s3"], indirect=True)
def test_on_s3_prefects_records_and_the_log_are_under_the_root(project: Path, root: str) -> None:
    report = distill(project, *LABELS_ONLY, f"run.root={root}")
    store = Store.at(root)
    assert report == store.where("runs/small/report.html")
    assert {f.path.split("/")[1] for f in store.backend.list("cache")} >= {"split", "train", "export"}
    assert "evaluate step 2" in (RunView(store, "small").read("train.log") or "")


@pytest.mark.slow
@pytest.mark.parametrize("root", ["s3"], indirect=True)
def test_another_machine_with_an_empty_prefect_database_reuses_everything(
    project: Path, root: str, tmp_path: Path
) -> None:
    distill(project, *LABELS_ONLY, f"run.root={root}")
    store = Store.at(root)
    before = {f.path: f.modified for f in store.backend.list("objects")}
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
    changes = [part for change in (*LABELS_ONLY, f"run.root={root}") for part in ("--set", change)]
    command = [sys.executable, "-m", "flows.cli", "run", "small.yaml", *changes]
    subprocess.run(command, cwd=elsewhere, env=env, check=True)
    assert all(entry.reused for entry in RunView(store, "small").stages().values())
    assert {f.path: f.modified for f in store.backend.list("objects")} == before
