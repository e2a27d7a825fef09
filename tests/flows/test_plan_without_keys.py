"""A plan needs no keys or servers and names the keys that a run needs; a run without them stops early."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.config.loading import load
from core.errors import UserError
from core.pipeline.run_context import RunContext
from core.store import Store
from tests.building import build_split
from tests.flows.running import understudy

LIVE = {
    "teacher.kind": "openai",
    "teacher.answers": "null",
    "teacher.base_url": "http://127.0.0.1:9/v1",
    "teacher.model": "m",
    "teacher.prices": "null",
    "teacher.api_key_env": "TEST_TEACHER_KEY",  # pragma: allowlist secret
}


@pytest.fixture
def tinker(tiny_model: Path) -> dict[str, str]:
    return {
        "student.engine": "tinker",
        "student.model": "tiny/student",
        "student.tokenizer": str(tiny_model),
        "student.engine.base_url": "http://127.0.0.1:9",
        "student.engine.prices": "null",
    }


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TEST_TEACHER_KEY", "TINKER_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def options(changes: dict[str, str]) -> list[str]:
    return [part for name, value in changes.items() for part in ("--set", f"{name}={value}")]


def split(config: Path, changes: dict[str, str]) -> None:
    """Split the data, so that the plan counts the teacher's calls and shows prompts."""
    resolved = load(config, [f"{name}={value}" for name, value in changes.items()])
    build_split(Store.open(resolved.config.run.root), resolved.config)


def test_a_plan_names_each_key_that_the_run_will_need(
    project: Path, tinker: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    both = {**LIVE, **tinker}
    for after_the_split in (False, True):
        if after_the_split:
            split(project, both)
        assert understudy("plan", str(project), *options(both)) == 0
        out = capsys.readouterr().out
        needed = [line for line in out.splitlines() if line.startswith("the run will need a key")]
        assert ["TEST_TEACHER_KEY" in line for line in needed] == [True, False]
        assert ["TINKER_API_KEY" in line for line in needed] == [False, True]
    assert "asking m: " in out
    assert "first prompt of the teacher" in out
    monkeypatch.setenv("TEST_TEACHER_KEY", "key")
    monkeypatch.setenv("TINKER_API_KEY", "tml-key")
    assert understudy("plan", str(project), *options(both)) == 0
    assert "will need a key" not in capsys.readouterr().out


@pytest.mark.parametrize("value", ["", "  ", "two words"])
def test_a_variable_without_a_valid_key_is_named(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("TEST_TEACHER_KEY", value)
    assert understudy("plan", str(project), *options(LIVE)) == 0
    assert "TEST_TEACHER_KEY" in capsys.readouterr().out


def test_a_sweeps_plan_names_missing_keys(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = project.parent / "sweep.yaml"
    sweep.write_text(f"name: s\nbase: {project.name}\narms:\n  one: [seed=1]\n  two: [seed=2]\n")
    arms = ["sweep", str(sweep), "--plan"]
    code = understudy(*arms, *options(LIVE))
    assert code == 0, capsys.readouterr().err
    assert capsys.readouterr().out.count("TEST_TEACHER_KEY") >= 2


@pytest.mark.parametrize("name", ["TEST_TEACHER_KEY", "TINKER_API_KEY"])
def test_a_run_without_its_key_stops_before_any_work(
    project: Path, tinker: dict[str, str], name: str
) -> None:
    changes = LIVE if name == "TEST_TEACHER_KEY" else tinker
    config = load(project, [f"{key}={value}" for key, value in changes.items()]).config
    with pytest.raises(UserError, match=name) as stopped:
        RunContext(config).preflight()
    assert stopped.value.exit_code == 2
