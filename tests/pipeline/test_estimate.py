"""The cost of a student on a server is estimated before it is spent, and reported next to what it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.config.loading import load
from core.pipeline.run import describe_plan
from core.pipeline.runners import switches
from tests.pipeline.running import run
from tests.servers import tinker

pytestmark = pytest.mark.integration

NAME = "tiny/student"
REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def running(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tinker.TinkerServer]:
    folder = tmp_path_factory.mktemp("server")
    with tinker.serve(tiny_model, folder, names=(NAME,), logprobs="weighted") as server:
        yield server


@pytest.fixture
def remote(running: tinker.TinkerServer, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Settings for gold labels and a label-only student on the server."""
    monkeypatch.setenv("TINKER_API_KEY", tinker.KEY)
    monkeypatch.setenv("TINKER_TELEMETRY", "0")
    return [
        "student.engine=tinker",
        f"student.model={NAME}",
        f"student.tokenizer={tiny_model}",
        f"student.engine.base_url={running.base_url}",
        "student.engine.prices=prices.yaml",
        "student.lora={rank: 2}",
        "evaluation.metric=log_loss",
    ]


SHORT = ["student.steps=2", "evaluation.interval=2", "export.splits=[test]", "export.label_only=false"]
GOLD = ["teacher.kind=gold", "teacher.answers=null", "student.target=label_only"]


def priced(project: Path, **students: Any) -> None:
    table = {"as_of": "2026-11-01", "source": "made up for this test", "models": {}, "students": students}
    (project.parent / "prices.yaml").write_text(yaml.safe_dump(table))


def plan(project: Path, changes: list[str]) -> str:
    resolved = load(project, changes)
    return describe_plan(resolved, switches(resolved.config.stages))


def read(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / name).read_text())
    return found


def test_the_estimate_for_gold_labels_equals_the_cost_on_a_server(
    project: Path, remote: list[str], running: tinker.TinkerServer
) -> None:
    priced(project, **{NAME: {"train": 3.0, "prefill": 1.0, "sample": 2.0}})
    changes = [*remote, *GOLD, "student.steps=4", "evaluation.interval=2", "export.splits=[val, test]"]
    assert "is known once the data is split" in plan(project, changes)
    folder = run(project, *changes)
    estimated, took = read(folder, "cost_estimate.json"), read(folder, "ledger.json")["student"]
    assert estimated["trained_tokens"] == took["trained_tokens"]
    assert estimated["prefilled_tokens"] == took["prefilled_tokens"]
    assert estimated["sampled_tokens"] == took["sampled_tokens"]
    assert estimated["usd"] == took["usd"] > 0
    assert estimated["notes"] == []
    report = (folder / "test_report.md").read_text()
    assert "student, as estimated before training" in report
    assert "the student learns the gold labels" in report
    assert f"about US$ {estimated['usd']:.4f}" in plan(project, changes)


def test_a_missing_price_is_reported_without_an_error(project: Path, remote: list[str]) -> None:
    priced(project)
    changes = [*remote, *GOLD, *SHORT]
    folder = run(project, *changes)
    estimated = read(folder, "cost_estimate.json")
    assert estimated["usd"] is None
    assert estimated["trained_tokens"] > 0
    assert estimated["notes"] == [
        f"no price of {NAME} is known (student.engine.prices): tokens are counted, money is not"
    ]
    assert "will take an unknown sum" in plan(project, changes)
    assert estimated["notes"][0] in plan(project, changes)


@pytest.mark.parametrize("target", ["label_first", "reason_first"])
def test_with_reasoning_training_is_estimated_exactly_and_prompts_nearly(
    project: Path, remote: list[str], target: str
) -> None:
    priced(project)
    more = ["export.max_new_tokens=16", "evaluation.max_new_tokens=16", "student.steps=2"]
    folder = run(project, *remote, *more, f"student.target={target}")
    estimated, took = read(folder, "cost_estimate.json"), read(folder, "ledger.json")["student"]
    assert estimated["trained_tokens"] == took["trained_tokens"]
    assert estimated["prefilled_tokens"] == pytest.approx(
        took["prefilled_tokens"], rel=0.1 if target == "label_first" else 1.2
    )


def test_before_encoding_the_plan_lists_its_assumptions(project: Path, remote: list[str]) -> None:
    priced(project)
    run(project, *remote, *SHORT, "student.target=label_first", only=["split", "sample", "reject", "encode"])
    other = plan(project, [*remote, *SHORT, "student.max_length=200", "run.name=other"])
    assert "the estimate assumes that every text of train is learned" in other
    assert "each reasoning has 80 tokens" in other


def test_the_shipped_config_of_gold_labels_asks_no_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)
    config = load(Path("configs/gold_label_only.yaml")).config
    assert (config.teacher.kind, config.student.target) == ("gold", "label_only")
