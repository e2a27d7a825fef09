"""The command line: fast help, exit codes, one message for each mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.running import environment, started, understudy

REPO = Path(__file__).resolve().parents[2]


def test_help_imports_no_heavy_module() -> None:
    code = (
        "import sys; from flows.cli import main\n"
        "for command in ([], ['ls'], ['rm'], ['gc'], ['summary'], ['compare']):\n"
        "    try: main([*command, '--help'])\n"
        "    except SystemExit: pass\n"
        "heavy = {'prefect', 'torch', 'transformers', 'pandas', 'pydantic', 's3fs', 'yaml', 'jinja2'}\n"
        "print(heavy & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "set()"


def test_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    assert understudy("--version") == 0
    assert version("understudy-distill") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "none.yaml"], "no config file at"),
        (
            ["run", "small.yaml", "--set", "student.epoch=1"],
            "student.epoch is not a key; did you mean epochs?",
        ),
        (
            ["run", "small.yaml", "--only", "trian"],
            "--only trian: unknown stage; did you mean train?",
        ),
        (
            ["run", "small.yaml", "--skip", "train", "--refresh", "train"],
            "--refresh train: this stage is switched off",
        ),
        (["evaluate", "--run", "x", "--root", "out"], "run x does not exist under"),
        (["rnu"], "No such command 'rnu'"),
        (["plan", "small.yaml", "--set", "data.path=nothing.csv"], "nothing.csv"),
    ],
)
def test_a_users_mistake_is_one_message_and_exit_code_2(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert understudy(*arguments) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error


def test_debug_adds_the_traceback(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert understudy("--debug", "run", "none.yaml") == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_plan_writes_nothing_and_lists_what_waits(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert understudy("plan", str(project)) == 0
    out = capsys.readouterr().out
    assert "split     run: not made before" in out
    assert "train     waits for split" in out
    assert not (project.parent / "out").exists()


def test_a_folder_that_shadows_core_is_named(tmp_path: Path) -> None:
    (tmp_path / "core").mkdir()
    (tmp_path / "core/__init__.py").write_text("")
    found = subprocess.run(
        [sys.executable, "-m", "flows.cli", "run", "none.yaml"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert found.returncode != 0
    assert "a folder of that name shadows ours" in found.stderr.splitlines()[-1]


def test_the_flow_is_found_by_its_deployment_entrypoint() -> None:
    from prefect.flows import load_flow_from_entrypoint

    from flows.distill import distill

    assert load_flow_from_entrypoint("flows.distill.distill") is distill


@pytest.mark.usefixtures("prefect_server")
def test_with_json_every_line_on_stderr_is_an_object(project: Path) -> None:
    env = {**environment(), "UNDERSTUDY_LOG_FORMAT": "json"}
    process = started("run", str(project), "--only", "split", "--set", "run.log_level=INFO", env=env)
    _, written = process.communicate()
    assert process.returncode == 0, written
    log = [json.loads(line) for line in written.splitlines()]
    assert all(set(line) == {"time", "level", "logger", "message"} for line in log)
    assert any(line["message"].startswith("split: run: ") for line in log)


def test_with_json_a_mistake_is_an_object_too(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDERSTUDY_LOG_FORMAT", "json")
    assert understudy("run", str(project), "--set", "student.steps=x") == 2
    mistake = json.loads(capsys.readouterr().err)
    assert understudy("--log-format", "text", "--version") == 0, "as the other tests need it"
    assert mistake["level"] == "ERROR"
    assert "student.steps" in mistake["message"]
