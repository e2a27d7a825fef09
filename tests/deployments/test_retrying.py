"""A run that failed at a stage is mended and retried: from the command line, and on its page in a browser."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.deployments import working
from tests.deployments.pages import PREFIXES, Pages, seen
from tests.deployments.working import Project, deploy, ended, flow_run, offspring, start, until
from tests.servers.prefect_api import PrefectServer

pytestmark = pytest.mark.deployments

EARLIER = ("split", "sample", "reject")
"""Stages before the one that fails; encode, which reads the model's files, is made of the mended ones."""
Retry = Callable[[str], None]


@pytest.fixture
def project(tmp_path: Path, tiny_model: Path) -> Project:
    return Project.write(tmp_path / "project", tiny_model)


@pytest.fixture
def weights(project: Project, tiny_model: Path) -> Path:
    """The weights of a model of the project's own, cut off as by a copy that was broken off."""
    folder = project.folder / "model"
    shutil.copytree(tiny_model, folder)
    found = folder / "model.safetensors"
    found.write_bytes(found.read_bytes()[:1000])
    return found


@pytest.fixture(params=["command", *PREFIXES])
def retry(request: pytest.FixtureRequest, server: PrefectServer) -> Retry:
    """Retries a run, in one of the ways there are."""

    def by_command(run: str) -> None:
        assert run in server.prefect("flow-run", "retry", run)

    def by_hand(run: str) -> None:
        page: Page = request.getfixturevalue("chromium_page")
        pages = Pages(page, server.url.removesuffix("/api"), request.param)
        pages.retry(run)
        seen(page.get_by_text("Completed", exact=True).first, 120)
        pages.shoot("retried")

    return by_command if request.param == "command" else by_hand


def test_a_failed_stage_is_retried_and_what_came_before_it_is_cached(
    server: PrefectServer, project: Project, weights: Path, tiny_model: Path, retry: Retry
) -> None:
    deploy(server, project)
    config = project.config("student.model=model", "run.name=small")
    with working.working(server, project) as worker:
        run = start(server, {"config": config})
        assert ended(server, run) == "Failed"
        failed = {**dict.fromkeys([*EARLIER, "encode"], "Completed"), "evaluate step 0 on val": "Failed"}
        assert working.states_of_tasks(server, run) == failed
        state = json.loads((project.run("small") / "run_state.json").read_text())
        assert state["state"] == "failed"
        assert "cannot be loaded (SafetensorError" in state["error"]
        assert working.whole(project)
        made = {p: p.stat().st_mtime_ns for p in project.folder.glob("out/objects/*/*.json")}
        assert {path.parent.name for path in made} == {*EARLIER, "encode"}

        shutil.copy(tiny_model / weights.name, weights)
        retry(run)
        until(lambda: flow_run(server, run)["state_name"] not in ("Failed", "AwaitingRetry"), "not retried")
        assert ended(server, run) == "Completed"
        until(lambda: offspring(worker.pid) == [], "a run's process outlived it", 30)
    states = working.states_of_tasks(server, run)
    assert {name: states.pop(name) for name in EARLIER} == dict.fromkeys(EARLIER, "Cached")
    assert states["encode"] == states["evaluate step 0 on val"] == "Completed"
    assert set(states.values()) <= {"Completed", "Cached"}
    assert flow_run(server, run)["run_count"] == 2
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert working.whole(project)
    assert (project.run("small") / "test_report.md").is_file()
