"""What `prefect deploy --all` and our commands register with a real server."""

from __future__ import annotations

import contextlib
import hashlib
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from core.config import Config
from core.config.loading import fields_at, leaves
from flows.cli import main
from tests.deployments.conftest import DEPLOY
from tests.flows.test_parameters import described
from tests.servers.prefect_api import PrefectServer

URL = "https://hooks.example.org/services/a-secret"


@pytest.fixture(scope="module")
def deployments(deployed: PrefectServer) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in deployed.post("deployments/filter")}


def automations(server: PrefectServer, beginning: str = "") -> list[dict[str, Any]]:
    found = server.post("automations/filter")
    return [each for each in found if each["name"].startswith(beginning)]


def waited(look: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What there is to see as soon as there is something."""
    until = time.monotonic() + 60
    while not (found := look()) and time.monotonic() < until:
        time.sleep(0.2)
    return found


def told(server: PrefectServer, *arguments: str) -> str:
    """What our command line prints, in this process, which has imported everything already."""
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

    printed = io.StringIO()
    here = temporary_settings({PREFECT_API_URL: server.url, PREFECT_HOME: server.home})
    with here, contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as e:
        main(list(arguments))
    assert e.value.code == 0
    return printed.getvalue()


def test_each_deployment_of_the_file_is_there_in_its_pool(deployments: dict[str, dict[str, Any]]) -> None:
    assert {name: (d["entrypoint"], d["work_pool_name"]) for name, d in deployments.items()} == {
        "distill": ("flows.distill.distill", "understudy"),
        "baseline": ("flows.baseline.baseline", "understudy"),
        "predict": ("flows.predict.predict", "understudy"),
        "distill-docker": ("flows.distill.distill", "understudy-docker"),
        "baseline-docker": ("flows.baseline.baseline", "understudy-docker"),
    }
    assert deployments["distill"]["job_variables"]["working_dir"] == "."
    assert all(d["pull_steps"] == [] for d in deployments.values())


def test_runs_of_a_deployment_wait_for_each_other(deployments: dict[str, dict[str, Any]]) -> None:
    for each in deployments.values():
        assert each["global_concurrency_limit"]["limit"] == 1
        assert each["concurrency_options"]["collision_strategy"] == "ENQUEUE"


def test_schedules_are_there_and_off(deployments: dict[str, dict[str, Any]]) -> None:
    for name in ("distill", "distill-docker"):
        (schedule,) = deployments[name]["schedules"]
        assert (schedule["schedule"]["cron"], schedule["active"]) == ("0 2 * * *", False)
    assert deployments["baseline"]["schedules"] == []


def test_the_form_describes_every_parameter_and_every_field_of_the_config(
    deployments: dict[str, dict[str, Any]],
) -> None:
    predict = deployments["predict"]["parameter_openapi_schema"]
    assert predict["required"] == ["input", "output"]
    assert all(each["description"] for each in predict["properties"].values())
    for each in (d for d in deployments.values() if d["name"] != "predict"):
        schema = each["parameter_openapi_schema"]
        for key in leaves(Config):
            section = fields_at(key[:-1])
            assert section is not None
            assert described(schema, key) == (key[-1], section[key[-1]].description)


def test_deploying_again_doubles_nothing_and_takes_the_image_that_a_variable_names(
    deployed: PrefectServer, deployments: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(each["name"] for each in automations(deployed))
    monkeypatch.setenv("UNDERSTUDY_IMAGE", "registry.example.org/understudy:7")
    deployed.prefect_here(*DEPLOY)
    again = {each["name"]: each for each in deployed.post("deployments/filter")}
    assert {d["id"] for d in again.values()} == {d["id"] for d in deployments.values()}
    assert sorted(each["name"] for each in automations(deployed)) == before
    for name in ("distill-docker", "baseline-docker"):
        assert deployments[name]["job_variables"]["image"] == "understudy:latest"
        assert again[name]["job_variables"]["image"] == "registry.example.org/understudy:7"


def test_a_published_table_starts_one_run_on_it(deployed: PrefectServer, table: Path) -> None:
    said = told(deployed, "publish-dataset", str(table))
    sha256 = hashlib.sha256(table.read_bytes()).hexdigest()
    assert f"published understudy.dataset.New-Texts as understudy.dataset.published: {table}" in said
    assert sha256 in said

    (run,) = waited(lambda: deployed.post("flow_runs/filter"))
    assert run["parameters"]["data"] == str(table)
    assert run["parameters"]["config"]["run"]["name"] == "quickstart"
    (started,) = deployed.post("deployments/filter", flow_runs={"id": {"any_": [run["id"]]}})
    assert started["name"] == "distill"
    events = {"event": {"name": ["understudy.dataset.published"]}}
    (event,) = waited(lambda: deployed.post("events/filter", filter=events)["events"])
    assert event["resource"]["prefect.resource.id"] == "understudy.dataset.New-Texts"
    assert event["payload"] == {
        "name": "New-Texts",
        "path": str(table),
        "sha256": sha256,
        "bytes": table.stat().st_size,
        "rows": 2,
    }


def test_automations_applied_twice_are_one_of_each_and_unchanged(
    deployed: PrefectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", URL)
    apply = ("automations", "apply", "--webhook-env", "HOOK", "--heartbeat", "60")
    assert told(deployed, *apply).count(": created") == 2
    mine = ("understudy: no sign", "understudy: a failed run")
    before = [each for name in mine for each in automations(deployed, name)]
    assert len(before) == 2
    said = told(deployed, *apply)
    assert said.count(": unchanged") == 2
    assert [each for name in mine for each in automations(deployed, name)] == before
    assert URL not in said + str(before)
    assert URL not in str(deployed.post("block_documents/filter"))
    database = next(deployed.home.glob("*.db"))
    assert URL.encode() not in b"".join(p.read_bytes() for p in deployed.home.glob(f"{database.name}*"))


def test_the_window_fits_the_heartbeat_and_a_switch_stays_as_it_was_set(deployed: PrefectServer) -> None:
    told(deployed, "automations", "apply", "--heartbeat", "180")
    (found,) = automations(deployed, "understudy: no sign")
    assert found["trigger"]["within"] >= 3 * 180
    httpx.patch(f"{deployed.url}/automations/{found['id']}", json={"enabled": False}).raise_for_status()
    said = told(deployed, "automations", "apply", "--heartbeat", "30")
    assert "understudy: no sign of life is a crash: changed" in said
    assert "Runs need a heartbeat every 30 s or more often" in said
    (changed,) = automations(deployed, "understudy: no sign")
    assert 90 <= changed["trigger"]["within"] < 180
    assert (changed["id"], changed["enabled"]) == (found["id"], False)
