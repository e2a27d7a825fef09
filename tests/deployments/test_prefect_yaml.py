"""deployments/prefect.yaml by itself: what it says, and what it must not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.config import Config
from core.config.loading import load

REPO = Path(__file__).resolve().parents[2]
FILE = REPO / "deployments/prefect.yaml"


@pytest.fixture(scope="module")
def deployments() -> list[dict[str, Any]]:
    found = yaml.safe_load(FILE.read_text())["deployments"]
    assert isinstance(found, list)
    return found


def test_the_config_is_that_of_the_quickstart_value_for_value(deployments: list[dict[str, Any]]) -> None:
    wanted = load(REPO / "configs/quickstart.yaml").config
    configs = [each for each in deployments if each["entrypoint"] != "flows.predict.predict"]
    assert len(configs) == len(deployments) - 1
    for each in configs:
        config = Config.model_validate(each["parameters"]["config"])
        assert config == wanted
        assert config.model_dump(exclude_unset=True) == wanted.model_dump(exclude_unset=True)


def test_every_entrypoint_is_a_flow_of_ours(deployments: list[dict[str, Any]]) -> None:
    for each in deployments:
        package, _, flow = each["entrypoint"].rpartition(".")
        assert f'@flow(name="{flow}"' in (REPO / package.replace(".", "/")).with_suffix(".py").read_text()


def test_the_automations_know_every_flow() -> None:
    from flows.deploy import FLOWS

    written = "".join(p.read_text() for p in (REPO / "flows").glob("*.py"))
    assert set(FLOWS) == set(re.findall(r'@flow\(name="([a-z-]+)"', written))


def test_one_dataset_starts_one_run(deployments: list[dict[str, Any]]) -> None:
    on = [each["name"] for each in deployments for t in each.get("triggers", []) if t["enabled"]]
    assert on == ["distill"]


def test_no_secret_and_no_block_is_in_the_files() -> None:
    given = re.compile(r"(?i)(password|secret|token|api_key)\w*\s*[:=]\s*['\"]?[A-Za-z0-9_\-]{8,}")
    for path in (REPO / "deployments").iterdir():
        text = path.read_text()
        assert "prefect.blocks" not in text
        assert not given.search(text), path
