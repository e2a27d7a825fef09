"""`understudy init` from the command line: what it shows, exit codes, and questions on a terminal only."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli import main
from tests.core.scaffold.tables import text, texts, with_column, write
from tests.small_project import REPO


def understudy(*arguments: str) -> int:
    with pytest.raises(SystemExit) as e:
        main(list(arguments))
    assert isinstance(e.value.code, int)
    return e.value.code


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def three_labels() -> Path:
    rows = [["text"], *([text(i)] for i in range(60))]
    return write(Path("t.csv"), with_column(rows, "label", ["good", "bad", "so so"]))


def test_it_shows_what_it_found_and_the_next_command(capsys: pytest.CaptureFixture[str]) -> None:
    write(Path("orders.csv"), texts())
    assert understudy("init", "orders.csv", "--out", "new/mine") == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown[:7]] == [
        "table",
        "format",
        "rows",
        "text",
        "label",
        "positive",
        "splits",
    ]
    assert shown[-1] == "Next: understudy run new/mine/config.yaml --smoke 16"
    assert Path("new/mine/.env.example").is_file()


@pytest.mark.parametrize("yes", [(), ("--yes",)])
def test_what_is_unclear_is_an_error_where_nobody_can_be_asked(
    capsys: pytest.CaptureFixture[str], yes: tuple[str, ...]
) -> None:
    three_labels()
    assert understudy("init", "t.csv", *yes) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: the label column 'label' has 3 values")
    assert "--positive" in error
    assert understudy("init", "t.csv", "--positive", "good", "--positive", "so so", *yes) == 0
    assert 'positive: ["good", "so so"]' in Path("t/config.yaml").read_text()
    assert understudy("init", "t.csv", "--positive", "good") == 2
    assert "nothing is overwritten" in capsys.readouterr().err


def test_on_a_terminal_it_asks() -> None:
    three_labels()
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "flows.cli", "init", "t.csv"]
    env = {**os.environ, "PYTHONPATH": str(REPO)}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env) as process:
        os.close(theirs)
        os.write(ours, b"wrong\ngood\ny\n")
        shown = b""
        while process.poll() is None or not shown.endswith(b"\n"):
            try:
                shown += os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
    os.close(ours)
    assert process.returncode == 0
    assert b"Write config.yaml" in shown
    assert 'positive: ["good"]' in Path("t/config.yaml").read_text()
