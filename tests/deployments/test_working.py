"""Deployments carried out by real workers: triggered, cached, cancelled, killed."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployments import working
from tests.deployments.working import LONG, Project, deploy, ended, flow_run, offspring, start, until
from tests.servers.prefect_api import PrefectServer, started

pytestmark = pytest.mark.deployments

BEAT = "30"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Project:
    return Project.write(tmp_path_factory.mktemp("worker") / "project", tiny_model)


@pytest.fixture(scope="module")
def deployed_small(server: PrefectServer, project: Project) -> PrefectServer:
    """The server, with `distill` on the small project."""
    deploy(server, project)
    return server


def test_published_tables_become_students_one_after_the_other_and_again_all_is_cached(
    deployed_small: PrefectServer, project: Project
) -> None:
    server = deployed_small
    tables = [project.folder / name for name in ("first.csv", "second.csv")]
    for table in tables:
        shutil.copy(project.folder / "texts.csv", table)
    with working.working(server, project) as worker:
        for table in tables:
            server.understudy("publish-dataset", str(table))
        until(lambda: len(server.post("flow_runs/filter")) == 2, "no run was started")
        runs = [str(each["id"]) for each in server.post("flow_runs/filter", sort="START_TIME_ASC")]
        assert [ended(server, run) for run in runs] == ["Completed", "Completed"]
        for name in ("small-first", "small-second"):
            assert (project.run(name) / "test_report.md").is_file()
        one, two = sorted((flow_run(server, run) for run in runs), key=lambda r: str(r["start_time"]))
        assert str(one["end_time"]) <= str(two["start_time"]), "the second did not wait for the first"

        server.understudy("publish-dataset", str(tables[0]))
        until(lambda: len(server.post("flow_runs/filter")) == 3, "no run was started")
        (again,) = {str(each["id"]) for each in server.post("flow_runs/filter")} - set(runs)
        assert ended(server, again) == "Completed"
        until(lambda: offspring(worker.pid) == [], "a run's process outlived it", 30)
    states = working.states_of_tasks(server, again)
    made = {name: state for name, state in states.items() if not name.startswith(("report", "publish"))}
    assert len(made) > 8
    assert {name for name, state in made.items() if state != "Cached"} == set()
    logs = server.post("logs/filter", logs={"flow_run_id": {"any_": [again]}}, limit=200)
    assert any(each["message"].startswith("split: reuse (built") for each in logs), "our lines are not there"


def test_a_cancelled_run_leaves_whole_artifacts_and_no_process(
    deployed_small: PrefectServer, project: Project
) -> None:
    server = deployed_small
    with working.working(server, project) as worker:
        config = project.config("run.root=cancelled", "run.name=cancelled", *LONG)
        run = start(server, {"config": config})
        until(
            lambda: len(list(project.folder.glob("cancelled/objects/train/*.json"))) > 2, "it never trained"
        )
        server.prefect("flow-run", "cancel", run)
        assert ended(server, run) == "Cancelled"
        until(lambda: offspring(worker.pid) == [], "a process of the cancelled run is left", 60)
        state = json.loads((project.run("cancelled", "cancelled") / "run_state.json").read_text())
        assert state["state"] == "stopped"
        assert working.whole(project, "cancelled")
        assert worker.poll() is None


class Hook(http.server.BaseHTTPRequestHandler):
    """Keeps what it is sent."""

    heard: list[str] = []

    def do_POST(self) -> None:
        """Take it."""
        self.heard.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""


@pytest.fixture
def hook() -> Iterator[tuple[str, list[str]]]:
    """A webhook's URL, and what it heard."""
    Hook.heard.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/a-secret", Hook.heard
        server.shutdown()
        thread.join()


def kill(worker: subprocess.Popen[bytes]) -> None:
    """As when the power fails: the worker before its runs, so that it can report nothing of them."""
    runs = offspring(worker.pid)
    assert runs
    for pid in [worker.pid, *runs]:
        os.kill(pid, signal.SIGKILL)


def test_a_run_whose_machine_died_is_marked_crashed_and_a_healthy_one_is_left_alone(
    deployed_small: PrefectServer,
    project: Project,
    tiny_model: Path,
    tmp_path: Path,
    hook: tuple[str, list[str]],
) -> None:
    server, (url, heard) = deployed_small, hook
    said = server.understudy("automations", "apply", "--heartbeat", BEAT, "--webhook-env", "HOOK", HOOK=url)
    assert said.count(": created") == 2
    beats = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": BEAT}

    healthy = Project.write(tmp_path / "served", tiny_model)
    long = [argument for each in LONG for argument in ("--set", each)]
    command = [sys.executable, "-c", "from flows.cli import main; main()", "serve", "small.yaml", *long]
    with started(command, healthy.folder, server.environment(**beats), working.log_of(healthy)) as serving:
        listed = {"deployments": {"name": {"any_": ["small"]}}}
        until(lambda: server.post("deployments/filter", **listed), "it is not served")
        well = start(server, {}, "small")
        with working.working(server, project, **beats) as worker:
            config = project.config("run.root=killed", "run.name=killed", *LONG)
            victim = start(server, {"config": config})
            until(lambda: working.events(server, victim, "prefect.flow-run.heartbeat"), "no heartbeat")
            until(lambda: working.events(server, well, "prefect.flow-run.heartbeat"), "no heartbeat")
            kill(worker)
        assert flow_run(server, victim)["state_name"] == "Running"
        assert ended(server, victim) == "Crashed"
        assert "no heartbeat for 3 intervals" in flow_run(server, victim)["state"]["message"]
        until(lambda: heard, "the webhook was not called", 60)
        (told,) = [json.loads(each) for each in heard]
        assert "is Crashed: no heartbeat" in told["text"]
        assert told["flow_run"] == victim

        assert working.events(server, well, "prefect.flow-run.heartbeat") >= 4
        assert flow_run(server, well)["state_name"] == "Running"
        serving.terminate()
        assert serving.wait(90) == 0, working.log_of(healthy).read_text()[-3000:]
        assert offspring(serving.pid) == []
        assert ended(server, well) == "Cancelled"
    assert "Traceback" not in working.log_of(healthy).read_text()
    assert working.whole(healthy)

    with working.working(server, project):
        following = start(server, {"config": project.config("run.root=following", "run.name=following")})
        assert ended(server, following) == "Completed", "the crashed run kept its place"
