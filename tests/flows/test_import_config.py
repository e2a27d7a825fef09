"""`understudy import-config` writes a config that loads, lists omissions, and overwrites nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.config.loading import load
from tests.core.legacy.olden import write_config, write_project
from tests.flows.running import understudy


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config of the predecessor in its folder, from which the command is run."""
    monkeypatch.chdir(write_project(tmp_path))
    return write_config(tmp_path, teacher_k=4, teacher_json_mode=False, techer_k=1)


def test_import_writes_a_config_that_loads_and_lists_omissions(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert understudy("import-config", str(old)) == 0
    output = capsys.readouterr().out
    assert output.startswith(
        "wrote reasoning_sft.yaml and reasoning_sft.prompts.yaml: 1 of 3 keys are taken over; keys that "
        "it lacks have the defaults of the scripts' first version\n"
    )
    assert f"{old}:3: teacher_json_mode: " in output
    assert "did you mean teacher_k?" in output
    assert output.endswith("then run: understudy plan reasoning_sft.yaml\n")
    config = load(Path("reasoning_sft.yaml")).config
    assert (config.teacher.attempts, config.data.dir, config.rules.dir) == (4, "dataset", "rules/ethos")


def test_import_overwrites_only_with_force(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.prompts.yaml").write_text("mine")
    assert understudy("import-config", str(old), "--output", "mine.yaml") == 2
    error = "mine.prompts.yaml already exists; give another --output, or --force"
    assert error in capsys.readouterr().err
    assert not Path("mine.yaml").exists()
    assert understudy("import-config", str(old), "--output", "mine.yaml", "--force") == 0
    assert Path("mine.yaml").is_file()
    assert Path("mine.prompts.yaml").read_text() != "mine"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["none.json"], "no config file at"),
        (["rules"], "cannot be read as a config"),
        (["{old}", "--output", "{old}/x.yaml"], "reasoning_sft.json/x.yaml: File exists; give another"),
        (["{old}", "--output", "{old}", "--force"], "a config is YAML here; give a name that ends in .yaml"),
        (["prompts/sft_reasoning.yaml"], "a config in YAML needs no import: run it as it is"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(
    old: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert understudy("import-config", *(a.format(old=old) for a in arguments)) == 2
    assert sentence in capsys.readouterr().err
    assert not list(Path().glob("*.yaml"))
