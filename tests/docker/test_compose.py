"""compose.yaml: what it starts is well before it is used, is reachable from this machine alone, holds no
password, and may do no more than it has to."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docker.reading import DOCKER, TOOLS, compose, example, instructions, variables

SERVICES: dict[str, dict[str, Any]] = compose()["services"]
# They end by themselves: others wait for their end, or nobody waits for them.
COMMANDS = {"bucket", "understudy"}
OURS = {name for name, service in SERVICES.items() if "UNDERSTUDY_IMAGE" in service["image"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """docker/ elsewhere, where its .env is the test's own."""
    shutil.copytree(DOCKER, tmp_path / "docker", ignore=shutil.ignore_patterns(".env", "__pycache__"))
    return tmp_path / "docker"


def resolved(folder: Path) -> subprocess.CompletedProcess[str]:
    """compose.yaml as a compose command reads it, with no variable but those of .env."""
    environment = {k: v for k, v in os.environ.items() if k not in variables()}
    # A dry run asks for no podman.
    command = [str(TOOLS / "podman-compose"), "--dry-run", "--profile", "tools", "config"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_it_is_what_the_compose_specification_allows() -> None:
    command = [str(TOOLS / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    found = subprocess.run(
        [*command, str(DOCKER / "compose.yaml")], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout


def test_with_an_env_that_is_filled_each_variable_has_its_value(folder: Path) -> None:
    subprocess.run(["sh", "new_env.sh"], cwd=folder, check=True, capture_output=True)
    found = resolved(folder)
    assert found.returncode == 0, found.stderr
    assert "${" not in found.stdout
    services = yaml.safe_load(found.stdout)["services"]
    assert set(services) == set(SERVICES)
    filled = dict(re.findall(r"^([A-Z0-9_]+)=(.+)$", (folder / ".env").read_text(), re.MULTILINE))
    assert (
        services["server"]["environment"]["PREFECT_SERVER_DATABASE_PASSWORD"] == filled["POSTGRES_PASSWORD"]
    )
    assert services["s3"]["environment"]["AWS_SECRET_ACCESS_KEY"] == filled["S3_SECRET_KEY"]
    assert services["worker"]["environment"]["AWS_SECRET_ACCESS_KEY"] == filled["S3_SECRET_KEY"]


@pytest.mark.parametrize("missing", list(example()[0]))
def test_without_a_value_it_says_which_and_what_to_do(missing: str, folder: Path) -> None:
    subprocess.run(["sh", "new_env.sh"], cwd=folder, check=True, capture_output=True)
    filled = (folder / ".env").read_text()
    (folder / ".env").write_text(re.sub(f"^{missing}=.*$", f"{missing}=", filled, flags=re.MULTILINE))
    found = resolved(folder)
    assert found.returncode != 0
    assert "set it in docker/.env, which new_env.sh makes" in found.stderr
    assert missing in found.stderr


def test_every_service_is_asked_how_it_is_or_waits_for_one_that_is() -> None:
    asked = {name for name, service in SERVICES.items() if "healthcheck" in service}
    assert asked == set(SERVICES) - COMMANDS
    for name in COMMANDS:
        assert "service_healthy" in {d["condition"] for d in SERVICES[name]["depends_on"].values()}


def test_nothing_waits_for_a_mere_start() -> None:
    for service in SERVICES.values():
        for name, wait in service.get("depends_on", {}).items():
            ends = "service_completed_successfully" if name in COMMANDS else "service_healthy"
            assert wait == {"condition": ends}


def test_a_command_that_ends_at_the_start_is_waited_for_by_one_that_stays() -> None:
    """`docker compose up --wait` takes any other for one that has failed."""
    at_start = {name for name in COMMANDS if "profiles" not in SERVICES[name]}
    waited = {d for name, s in SERVICES.items() if name not in COMMANDS for d in s.get("depends_on", {})}
    assert at_start <= waited


def test_no_port_is_open_beyond_this_machine() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 2
    assert all(str(port).startswith("127.0.0.1:") for port in ports)
    assert [s for s in SERVICES.values() if s.get("network_mode") or "host" in str(s.get("networks"))] == []


def test_no_password_is_written_down() -> None:
    """Whatever is named like a secret is a variable that has no default."""
    found = [
        (key, value)
        for service in SERVICES.values()
        for key, value in service.get("environment", {}).items()
        if re.search(r"PASSWORD|SECRET|KEY|TOKEN|AUTH", key)
    ]
    assert len(found) > 10
    for _, value in found:
        assert re.fullmatch(r"(understudy:)?\$\{[A-Z0-9_]+(:\?[^}]+|:-)\}", value)
    assert not re.search(r"://[^/\s]*:[^/\s]*@", (DOCKER / "compose.yaml").read_text())


def test_nothing_may_do_more_than_it_has_to() -> None:
    assert {name for name, service in SERVICES.items() if not service["read_only"]} == {"postgres"}
    for service in SERVICES.values():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not {"privileged", "cap_add", "devices", "pid", "ipc"} & set(service)
        assert {"mem_limit", "pids_limit", "logging"} <= set(service)
        assert "/var/run/docker.sock" not in str(service)


def test_no_service_runs_as_root() -> None:
    """Ours have the image's user; the database's image begins as root unless told otherwise."""
    assert SERVICES["postgres"]["user"] == "postgres"
    assert all("user" not in service for name, service in SERVICES.items() if name != "postgres")


def test_only_the_server_reaches_the_database() -> None:
    assert compose()["networks"]["database"]["internal"] is True
    assert {n for n, s in SERVICES.items() if "database" in s["networks"]} == {"postgres", "server"}


def test_what_stays_comes_up_again_and_what_ends_does_not() -> None:
    assert {n for n, s in SERVICES.items() if s["restart"] == "unless-stopped"} == set(SERVICES) - COMMANDS
    assert {SERVICES[name]["restart"] for name in COMMANDS} == {"no"}


def test_what_is_to_stay_is_in_a_named_volume() -> None:
    mounts = {name: service.get("volumes", []) for name, service in SERVICES.items()}
    assert mounts["postgres"] == ["database:/var/lib/postgresql/data"]
    assert mounts["s3"] == ["objects:/data"]
    assert (
        mounts["worker"] == mounts["understudy"] == ["home:/home/understudy", "artifacts:/project/artifacts"]
    )
    assert {m.split(":")[0] for found in mounts.values() for m in found} == set(compose()["volumes"])


def test_each_place_that_the_image_declares_a_volume_is_given_one() -> None:
    """Else every container leaves a nameless volume behind."""
    declared = next(i.words for i in instructions() if i.name == "VOLUME")
    for name in OURS:
        service = SERVICES[name]
        given = {m.split(":")[1] for m in service.get("volumes", [])} | set(service["tmpfs"])
        assert set(declared) <= given


def test_nothing_is_reported_to_anybody() -> None:
    assert SERVICES["server"]["environment"]["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert "-master.telemetry=false" in SERVICES["s3"]["command"]


def test_images_are_named_short_or_by_variable() -> None:
    for service in SERVICES.values():
        assert re.fullmatch(r"\$\{[A-Z0-9_]+_IMAGE:-[a-z0-9-]+:[a-z0-9.-]+\}", service["image"])


def test_what_is_built_names_targets_and_arguments_of_the_dockerfile() -> None:
    stages = {i.stage for i in instructions()}
    arguments = {i.rest.split("=")[0] for i in instructions() if i.name == "ARG"}
    built = [service["build"] for service in SERVICES.values() if "build" in service]
    assert {b["target"] for b in built} == {"understudy", "s3"}
    for build in built:
        assert (DOCKER / build["context"] / build["dockerfile"]).is_file()
        assert build["target"] in stages
        assert set(build["args"]) <= arguments
