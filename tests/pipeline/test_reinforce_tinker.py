"""Reinforcement on a server: policy gradients, weights for a sampler each step, and token counts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.config.loading import load
from core.engines.tinker.session import SAMPLER_TTL_S
from core.pipeline.run import describe_reinforcement
from core.store import Store
from tests.building import build_split
from tests.conftest import AnsweringModel
from tests.pipeline.running import reinforce
from tests.servers import tinker
from tests.servers.tinker_records import Saved, Stepped
from tests.small_project import write_project

pytestmark = pytest.mark.integration

NAME = "tiny/answering"
PRICES = """\
as_of: 2026-01-01
source: made up
models: {}
students:
  tiny/answering: {train: 1.0, prefill: 0.5, sample: 2.0}
"""


@pytest.fixture(scope="module")
def running(
    answering_model: AnsweringModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tinker.TinkerServer]:
    """One server for the module, with a model that answers in the right format, at random."""
    folder = tmp_path_factory.mktemp("server")
    with tinker.serve(answering_model("label_only"), folder, names=(NAME,), logprobs="weighted") as server:
        yield server


@pytest.fixture
def server(running: tinker.TinkerServer, monkeypatch: pytest.MonkeyPatch) -> tinker.TinkerServer:
    running.recover()
    monkeypatch.setenv("TINKER_API_KEY", tinker.KEY)
    monkeypatch.setenv("TINKER_TELEMETRY", "0")
    return running


@pytest.fixture
def project(tmp_path: Path, answering_model: AnsweringModel, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prices.yaml").write_text(PRICES)
    return write_project(tmp_path, answering_model("label_only"))


@pytest.fixture
def settings(server: tinker.TinkerServer, answering_model: AnsweringModel) -> list[str]:
    return [
        "student.engine=tinker",
        f"student.model={NAME}",
        f"student.tokenizer={answering_model('label_only')}",
        f"student.engine.base_url={server.base_url}",
        "student.lora={rank: 2}",
        "student.target=label_only",
        "student.engine.prices=prices.yaml",
        "evaluation.metric=log_loss",
        "export.splits=[val, test]",
        "reinforce.steps=4",
        "reinforce.interval=2",
        "reinforce.batch_size=4",
        "reinforce.group_size=4",
        "reinforce.max_new_tokens=12",
        "reinforce.learning_rate=0.003",
        "reinforce.substeps=2",
        "reinforce.kl=0.01",
    ]


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_reinforcement_on_a_server_learns_and_counts_its_cost(
    project: Path, settings: list[str], server: tinker.TinkerServer
) -> None:
    since = len(server.records())
    server.fail("user_error", on="asample", first=1)
    folder = reinforce(project, *settings, start="base")
    done = server.records()[since:]
    history = rows(folder / "rl_history.jsonl")

    assert sum(row["failed_rollouts"] for row in history) in (0, 4), "a request holds a group"
    assert all(row["n_rollouts"] + row["failed_rollouts"] == 16 for row in history)
    updates = [row for row in done if isinstance(row, Stepped)]
    assert len(updates) == sum(row["updates"] for row in history) > 2
    assert {row.loss_fn for row in updates} == {"ppo"}
    saved = [row for row in done if isinstance(row, Saved) and row.kind == "sampler_weights"]
    for_sampler = [row for row in saved if row.ttl_seconds == SAMPLER_TTL_S]
    again = [row for row in history if row["updates"] and row["step"] in (1, 3)]
    assert len(for_sampler) == len(again), "weights are saved after each update except the last of a segment"
    assert history[0]["kl_logprob_diff_mean"] == pytest.approx(0, abs=1e-3)
    assert all((row["kl_logprob_diff_mean"] is None) == (row["updates"] == 0) for row in history)
    assert max(row["kl_logprob_diff_mean"] or 0 for row in history) > 0.001

    ledger = json.loads((folder / "ledger.json").read_text())["student"]
    assert ledger["trained_tokens"] == sum(row["tokens"] for row in history)
    assert ledger["sampled_tokens"] > 0
    assert ledger["requests"] >= 4 * 4
    assert ledger["usd"] > 0
    summary = json.loads((folder / "rl_summary.json").read_text())
    assert summary["best_step"] > 0
    assert (folder / "adapter/adapter_model.safetensors").is_file()
    pointer = json.loads((project.parent / "out/model/rl_latest.json").read_text())
    assert pointer["sampler_path"].startswith("tinker://")

    applied = len(updates)
    assert reinforce(project, *settings, start="base") == folder
    assert sum(isinstance(row, Stepped) for row in server.records()[since:]) == applied


def test_the_plan_states_the_price(
    project: Path, settings: list[str], server: tinker.TinkerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No key is needed, and the key that the run will need is named."""
    monkeypatch.delenv("TINKER_API_KEY")
    resolved = load(project, settings)
    since = len(server.records())
    build_split(Store.open("out"), resolved.config)
    text = describe_reinforcement(resolved, "base")
    assert "64 answers of up to 12 tokens, 2 updates a step" in text
    assert "at most about US$ 0." in text
    assert "the run will need a key: " in text
    assert "TINKER_API_KEY" in text
    assert len(server.records()) == since
