"""Every command of deployments/README.md, as it stands there, in a copy of the project."""

from __future__ import annotations

import contextlib
import csv
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.deployments.working import ended, until
from tests.servers import prefect_api, s3
from tests.servers.prefect_api import PrefectServer, started
from tests.small_project import texts, write_project

pytestmark = pytest.mark.deployments

REPO = Path(__file__).resolve().parents[2]
PORT = "4200"
COPIED = ("understudy", "core", "tasks", "flows", "deployments", "prompts", "pyproject.toml")


@dataclass(frozen=True, slots=True)
class Block:
    """Commands of the README, and whether they stay."""

    script: str
    stays: bool


def blocks(port: int) -> list[Block]:
    """All shell blocks, with the port replaced, which may be taken here."""
    text = (REPO / "deployments/README.md").read_text().replace(f":{PORT}", f":{port}")
    found = re.findall(r"^```sh( stays)?\n(.*?)^```$", text, flags=re.M | re.S)
    return [Block(script, bool(stays)) for stays, script in found]


@pytest.fixture
def clone(tmp_path: Path, tiny_model: Path) -> Path:
    """A copy of the project in which the small project is called the quickstart."""
    folder = tmp_path / "clone"
    folder.mkdir()
    for name in COPIED:
        source = REPO / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    config = yaml.safe_load(write_project(folder, tiny_model).read_text())
    config["run"] = {"name": "quickstart", "root": "artifacts"}
    config["rejection"]["rules"] = [{"rule": rule} for rule in config["rejection"]["rules"]]
    (folder / "configs").mkdir()
    (folder / "configs/quickstart.yaml").write_text(yaml.safe_dump(config))
    (folder / "data").mkdir()
    shutil.copy(folder / "texts.csv", folder / "data/new.csv")
    file = folder / "deployments/prefect.yaml"
    deployed = yaml.safe_load(file.read_text())
    deployed.pop("definitions")
    for each in deployed["deployments"]:
        each["parameters"] = {"config": config} if each["name"] != "predict" else {}
    file.write_text(yaml.dump(deployed))
    return folder


@pytest.fixture
def storage(s3_server: s3.S3Server, clone: Path) -> dict[str, str]:
    """A bucket of the README's name with a table in it; what a client's environment needs."""
    with contextlib.suppress(FileExistsError):
        s3_server.make_bucket("understudy")
    s3_server.filesystem().pipe_file("understudy/in/texts.csv", (clone / "texts.csv").read_bytes())
    return s3_server.environment()


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as s:
        return int(s.getsockname()[1])


def distilling(server: PrefectServer) -> list[str]:
    """The started runs of `distill`, without those that the served cron line plans for the next nights."""
    runs = server.post("flow_runs/filter", flows={"name": {"any_": ["distill"]}})
    return [str(run["id"]) for run in runs if not run["auto_scheduled"]]


@pytest.fixture
def carried_out(clone: Path, storage: dict[str, str], port: int, tmp_path: Path) -> Iterator[PrefectServer]:
    """The server of the README, after all of its commands."""
    server = PrefectServer(f"http://127.0.0.1:{port}/api", tmp_path / "home")
    environment = server.environment(
        **storage, PREFECT_SERVER_API_PORT=str(port), UNDERSTUDY_CACHE=str(tmp_path / "cache")
    )
    environment["PYTHONPATH"] = str(clone)
    for name in ("PREFECT_API_URL", "PREFECT_SERVER_ANALYTICS_ENABLED", "DO_NOT_TRACK"):
        environment.pop(name)
    exports, *rest = blocks(port)
    with contextlib.ExitStack() as stack:
        for i, block in enumerate(rest):
            log = tmp_path / f"block{i}.log"
            command = ["bash", "-euc", exports.script + block.script]
            if block.stays:
                process = stack.enter_context(started(command, clone, environment, log))
                if "server start" in block.script:
                    prefect_api.wait(server, process, log)
                if "understudy serve" in block.script:
                    until(lambda: server.post("deployments/filter"), "it is not served")
            else:
                with log.open("wb") as out:
                    done = subprocess.run(
                        command, cwd=clone, env=environment, stdout=out, stderr=subprocess.STDOUT, check=False
                    )
                assert done.returncode == 0, block.script + log.read_text()
                if "publish-dataset data/new.csv" in block.script:
                    until(lambda: len(distilling(server)) == 3, "nothing was started")
        yield server


def test_every_command_does_what_the_readme_says(
    carried_out: PrefectServer, clone: Path, s3_server: s3.S3Server
) -> None:
    server = carried_out
    until(lambda: len(distilling(server)) == 4, "the published tables started no runs")
    assert [ended(server, run) for run in distilling(server)] == ["Completed"] * 4
    assert {each.name for each in (clone / "artifacts/runs").iterdir()} == {"quickstart", "quickstart-new"}
    with (clone / "data/answers.csv").open(newline="") as f:
        answers = list(csv.DictReader(f))
    assert len(answers) == len(texts())
    assert {each["label"] for each in answers} <= {"0", "1"}
    # The random student of these tests puts its probability on neither label.
    assert all("is on neither label" in each["error"] for each in answers)
    on_s3 = s3_server.filesystem().glob("understudy/runs/runs/*/test_report.md")
    assert on_s3 == ["understudy/runs/runs/quickstart-texts/test_report.md"]


def test_all_commands_are_in_blocks_that_are_carried_out() -> None:
    text = (REPO / "deployments/README.md").read_text()
    assert len(blocks(1)) == len(re.findall(r"^```", text, flags=re.M)) // 2
