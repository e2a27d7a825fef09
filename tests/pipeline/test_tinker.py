"""The whole pipeline with a student that a server trains: the same files, and no step applied twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import ConfigError, ModelError
from tests.pipeline import running as runs
from tests.servers import tinker
from tests.servers.tinker_records import Restored, Saved, Stepped

pytestmark = pytest.mark.integration

NAME = "tiny/student"
PATIENCE = 180.0


@pytest.fixture(scope="module")
def running(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tinker.TinkerServer]:
    """One server for the module, over the tiny model with the real tokenizer."""
    with tinker.serve(
        tiny_model, tmp_path_factory.mktemp("server"), names=(NAME, "tiny/other"), logprobs="weighted"
    ) as server:
        yield server


@pytest.fixture
def server(running: tinker.TinkerServer, monkeypatch: pytest.MonkeyPatch) -> tinker.TinkerServer:
    running.recover()
    monkeypatch.setenv("TINKER_API_KEY", tinker.KEY)
    monkeypatch.setenv("TINKER_TELEMETRY", "0")
    return running


def overrides(server: tinker.TinkerServer, model: Path, *more: str) -> list[str]:
    return [
        "student.engine=tinker",
        f"student.model={NAME}",
        f"student.tokenizer={model}",
        f"student.engine.base_url={server.base_url}",
        "student.lora={rank: 2}",
        "evaluation.interval=2",
        "evaluation.metric=log_loss",
        "export.splits=[val, test]",
        "export.reasoning_rows=2",
        "export.max_new_tokens=8",
        "student.engine.prices=null",
        *more,
    ]


def run(config: Path, changes: list[str]) -> Path:
    return runs.run(config, *changes)


def train(config: Path, changes: list[str]) -> Path:
    """Run everything up to the evaluations of the checkpoints."""
    return runs.run(config, *changes, skip=["export"])


def steps(server: tinker.TinkerServer, since: int) -> list[Stepped]:
    return [r for r in server.records()[since:] if isinstance(r, Stepped)]


def started(config: Path, changes: list[str]) -> subprocess.Popen[bytes]:
    """`train` in a process of its own."""
    code = (
        "from pathlib import Path\nfrom tests.pipeline.running import run\n"
        f"run(Path({str(config)!r}), *{changes!r}, skip=['export'])"
    )
    env = {**os.environ, "PYTHONPATH": str(runs.REPO)}
    return subprocess.Popen([sys.executable, "-c", code], env=env, start_new_session=True)


def forget_evaluations(made: Path, slot: str) -> None:
    """Remove the object of one evaluation, so that it is built again."""
    entry = json.loads((made / "stages.json").read_text())[slot]
    stage = slot.partition("/")[0]
    (made.parents[1] / "objects" / stage / f"{entry['key']}.json").unlink()


def alive(server: tinker.TinkerServer, path: str) -> bool:
    from core.engines.tinker import Connection, TinkerEngine

    engine = TinkerEngine(NAME, Connection(server.base_url, tinker.KEY))
    try:
        return path in {each.location for each in engine.checkpoints()}
    finally:
        engine.close()


def test_a_run_trains_on_the_server_and_a_repeated_run_sends_nothing(
    project: Path, server: tinker.TinkerServer, tiny_model: Path
) -> None:
    since = len(server.records())
    changes = overrides(server, tiny_model, f"student.engine.local_model={tiny_model}")
    made = run(project, changes)
    assert [s.step for s in steps(server, since)] == [0, 1, 2, 3, 4, 5]
    history = [json.loads(line) for line in (made / "student_phase/train_history.jsonl").open()]
    applied = steps(server, since)
    assert [s.learning_rate for s in applied] == pytest.approx([row["learning_rate"] for row in history])
    assert [s.loss for s in applied] == pytest.approx([row["loss"] for row in history], rel=1e-4)
    assert all(row["grad_norm"] is not None for row in history)

    parity = json.loads((made / "student_phase/adapter/parity.json").read_text())
    assert parity["checked"]
    assert parity["rows"] > 0
    assert parity["largest"] < 1e-4
    assert (made / "student_phase/adapter/adapter_model.safetensors").is_file()

    pointer = json.loads((made.parents[1] / "model/latest.json").read_text())
    assert pointer["engine"] == "tinker"
    assert pointer["server"] == server.base_url
    assert pointer["sampler_path"].startswith("tinker://")
    assert (made.parents[1] / pointer["best_model_path"] / "adapter_config.json").is_file()
    ledger = json.loads((made / "ledger.json").read_text())
    assert ledger["student"]["trained_tokens"] == sum(row["tokens"] for row in history)
    assert ledger["student"]["prefilled_tokens"] > 0
    assert ledger["student"]["sampled_tokens"] > 0

    records, sampled = len(server.records()), server.counts().sampled
    run(project, changes)
    assert steps(server, records) == []
    assert server.counts().sampled == sampled

    saved = [r for r in server.records()[since:] if isinstance(r, Saved)]
    ours = [r for r in saved if r.kind != "external_weights"]
    assert len(ours) == 2 * 3, "state and sampler's weights of three segments"
    assert all(r.ttl_seconds == 7 * 24 * 3600 for r in ours)
    server.expire()
    assert alive(server, pointer["sampler_path"]), "the chosen checkpoint stays for ever"
    assert not all(alive(server, r.path) for r in ours)
    assert_both_answer_alike(made, server)


def assert_both_answer_alike(made: Path, server: tinker.TinkerServer) -> None:
    """Check that the server's weights and the downloaded adapter give the same probabilities."""
    from core.predict import load

    asked = ["You have won a prize, call now", "See you at lunch"]
    here, there = (
        load(made.name, str(made.parents[1]), weights=weights, device="cpu")
        for weights in ("adapter", "server")
    )
    before = server.counts().calls["finish"]
    with here, there:
        expected = [prediction.probability for prediction in here(asked)]
        assert [prediction.probability for prediction in there(asked)] == pytest.approx(expected, abs=1e-4)
    assert server.counts().calls["finish"] == before + 1, "the session on the server is ended"


def test_a_killed_run_continues_from_the_last_state_on_the_server(
    project: Path, server: tinker.TinkerServer, tiny_model: Path
) -> None:
    since = len(server.records())
    changes = overrides(server, tiny_model)
    process = started(project, changes)
    until = time.monotonic() + PATIENCE
    while not list((project.parent / "out/objects/train").glob("*.json")):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < until, "no segment was finished in time"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    train(project, changes)
    assert_each_step_once(server, since)


def test_a_deleted_checkpoint_is_trained_again_from_the_newest_existing_one(
    project: Path, server: tinker.TinkerServer, tiny_model: Path
) -> None:
    changes = overrides(server, tiny_model)
    made = train(project, changes)
    forget_evaluations(made, "evaluate/6")
    states = [r.path for r in server.saves() if r.kind in ("weights", "sampler_weights")][-6:]
    for path in states:
        if "step000002" not in path:
            server.expire(path)
    since = len(server.records())
    train(project, changes)
    again = steps(server, since)
    assert [s.step for s in again] == [2, 3, 4, 5]
    assert next(r.step for r in server.records()[since:] if isinstance(r, Restored)) == 2


def test_key_server_and_model_are_checked_before_any_work(
    project: Path, server: tinker.TinkerServer, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = overrides(server, tiny_model)
    with pytest.raises(ModelError, match=r"does not serve 'tiny/studnt'; nearest: tiny/student"):
        run(project, [*changes, "student.model=tiny/studnt"])
    with pytest.raises(ConfigError, match=r"student\.lora\.alpha is 4, but the Tinker protocol"):
        run(project, [*changes, "student.lora={rank: 2, alpha: 4}"])
    server.ask_for_key("tml-another")
    with pytest.raises(ConfigError, match="does not accept the key in TINKER_API_KEY"):
        run(project, changes)
    monkeypatch.delenv("TINKER_API_KEY")
    with pytest.raises(ConfigError, match="TINKER_API_KEY is not set"):
        run(project, changes)
    assert not (project.parent / "out/objects").exists(), "nothing was made before"


def assert_each_step_once(server: tinker.TinkerServer, since: int) -> None:
    """Check that the last saved weights contain every step once, in order.

    Steps after the last save before a failure are lost.
    """
    rows = server.records()[since:]
    lineage: dict[str, list[int]] = {}
    last = None
    for row in rows:
        if isinstance(row, Restored):
            lineage[row.model] = list(range(row.step))
        elif isinstance(row, Stepped):
            lineage.setdefault(row.model, []).append(row.step)
        elif isinstance(row, Saved) and row.kind == "weights":
            last = row
    assert last is not None
    assert lineage[last.model] == [0, 1, 2, 3, 4, 5]


def test_checkpoints_are_listed_and_removed_unless_a_pointer_names_them(
    project: Path, server: tinker.TinkerServer, tiny_model: Path
) -> None:
    from click.testing import CliRunner

    from flows.cli.commands import cli

    shorter = ("student.target=label_only", "student.steps=2", "export.label_only=false")
    made = run(project, overrides(server, tiny_model, *shorter))
    pointer = json.loads((made.parents[1] / "model/latest.json").read_text())
    chosen = pointer["sampler_path"]
    asked = ["--server", server.base_url]
    listed = CliRunner().invoke(cli, ["checkpoints", "ls", *asked]).output
    line = next(line for line in listed.splitlines() if chosen in line)
    assert line.split()[:2] == ["sampler", str(pointer["best_step"])]
    assert " never " in line
    others = [line.split()[-1] for line in listed.splitlines()[1:] if " never " not in line]
    removed = CliRunner().invoke(cli, ["checkpoints", "rm", others[0], *asked, "--root", "out"])
    assert removed.output == f"removed {others[0]}\n"
    assert not alive(server, others[0])
    refused = CliRunner().invoke(cli, ["checkpoints", "rm", chosen, *asked, "--root", "out"])
    assert "is named by model/" in str(refused.exception)
    assert alive(server, chosen)
