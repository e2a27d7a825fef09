"""Consoles that are not UTF-8 show replacements, data stays UTF-8, and a closed pipe is not an error."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from core.config.loading import load
from core.store import RunView, Store
from flows.cli import console, main
from tests.building import build_split

REPO = Path(__file__).resolve().parents[2]
TEXTS = ("🎁💰 prêmio über", "встреча в 8 ☀", "見てください")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The config of a project whose data is split and whose texts no 8-bit encoding covers."""
    monkeypatch.chdir(tmp_path)
    with Path("texts.csv").open("w", encoding="utf-8", newline="") as f:
        rows = [(i, f"{TEXTS[i % 3]} {i}", int(i % 3 == 0)) for i in range(60)]
        csv.writer(f).writerows([("id", "text", "label"), *rows])
    for folder in ("rules", "model"):
        Path(folder).mkdir()
    Path("rules/R1_gifts.txt").write_text("R1 Gifts 🎁 are spam.", encoding="utf-8")
    Path("model/config.json").write_text("{}")
    Path("model/model.safetensors").write_bytes(b"only its digest is read")
    config = {
        "data": {"path": "texts.csv", "near_duplicates": {"enabled": False}},
        "teacher": {"kind": "gold"},
        "student": {"model": "./model", "target": "label_only", "rulebook": True},
        "prompts": {"file": str(REPO / "prompts/default.yaml")},
    }
    path = tmp_path / "small.yaml"
    path.write_text(json.dumps(config))
    resolved = load(path)
    store = Store.open(resolved.config.run.root)
    split = build_split(store, resolved.config)
    RunView(store, "fêté").record("split", split, reused=False)
    return path


@dataclass(frozen=True, slots=True)
class Shown:
    """A command's exit code and its console output, decoded strictly."""

    code: int
    out: str
    err: str


Understudy = Callable[..., Shown]
ENCODINGS = ("ascii", "latin-1", "cp1252", "shift-jis", "utf-8")


@pytest.fixture(params=ENCODINGS)
def encoding(request: pytest.FixtureRequest) -> str:
    """A console's encoding that lacks some of the texts' characters; UTF-8 has them all."""
    name: str = request.param
    return name


@pytest.fixture
def understudy(encoding: str, monkeypatch: pytest.MonkeyPatch) -> Understudy:
    """Run a command on a console with that encoding."""

    def run(*arguments: str) -> Shown:
        out, err = io.BytesIO(), io.BytesIO()
        with monkeypatch.context() as patch:
            # As Python opens them: a character that is not there is an error.
            patch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding, "strict"))
            patch.setattr(sys, "stderr", io.TextIOWrapper(err, encoding, "strict"))
            with pytest.raises(SystemExit) as e:
                main(list(arguments))
            sys.stdout.flush()
            sys.stderr.flush()
            assert isinstance(e.value.code, int)
            return Shown(e.value.code, out.getvalue().decode(encoding), err.getvalue().decode(encoding))

    return run


def replaced(text: str, encoding: str) -> str:
    """The text as a console with this encoding shows it."""
    return text.encode(encoding, "replace").decode(encoding)


def test_plan_shows_the_first_prompt(project: Path, encoding: str, understudy: Understudy) -> None:
    shown = understudy("plan", str(project))
    assert shown.code == 0
    assert replaced("R1 Gifts 🎁 are spam.", encoding) in shown.out


def test_runs_are_listed(project: Path, encoding: str, understudy: Understudy) -> None:
    shown = understudy("ls")
    assert shown.code == 0
    assert replaced("fêté", encoding) in shown.out


def test_a_written_file_is_named(project: Path, encoding: str, understudy: Understudy) -> None:
    shown = understudy("compare", "fêté", "нет")
    assert shown.code == 2
    assert replaced("fêté", encoding) in shown.err


@pytest.mark.parametrize(
    "command", [["plan", "☀.yaml"], ["run", "☀.yaml"], ["predict", "--model", "☀"], ["☀"]]
)
def test_mistakes_are_shown(project: Path, encoding: str, understudy: Understudy, command: list[str]) -> None:
    shown = understudy(*command)
    assert shown.code == 2
    assert replaced("☀", encoding) in shown.err
    assert "this is a bug" not in shown.err


def test_json_lines_are_whole(project: Path, understudy: Understudy) -> None:
    shown = understudy("--log-format", "json", "plan", "☀.yaml")
    assert "☀.yaml" in json.loads(shown.err.splitlines()[-1])["message"]
    understudy("--log-format", "text", "--help")


def test_help_is_shown(understudy: Understudy) -> None:
    shown = understudy("--help")
    assert (shown.code, "Usage" in shown.out) == (0, True)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_data_is_utf8(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding, "strict"))
        out = console.data_output()
        csv.writer(out, lineterminator="\n").writerow([*TEXTS, "a\nb"])
        out.flush()
    assert next(csv.reader(io.StringIO(written.getvalue().decode("utf-8"), newline=""))) == [*TEXTS, "a\nb"]


def process(*arguments: str) -> list[str]:
    """The command line of another process."""
    return [sys.executable, "-c", "import sys; from flows.cli import main; main(sys.argv[1:])", *arguments]


def test_a_process_in_the_c_locale_shows_a_plan(project: Path) -> None:
    """In a real process Python chooses encoding and error handler of its streams."""
    env = {
        **os.environ,
        "PYTHONPATH": str(REPO),
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
    }
    env.pop("PYTHONIOENCODING", None)
    found = subprocess.run(process("plan", "small.yaml"), env=env, capture_output=True, check=False)
    assert found.returncode == 0, found.stderr
    assert b"R1 Gifts ? are spam." in found.stdout


@pytest.mark.parametrize("closed", ["stdout", "both"])
def test_a_closed_pipe_ends_the_command_without_an_error(project: Path, closed: str) -> None:
    """As `understudy ls | head`."""
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(
        process("ls"),
        env={**os.environ, "PYTHONPATH": str(REPO)},
        stdout=write,
        stderr=write if closed == "both" else subprocess.PIPE,
        check=False,
    )
    os.close(write)
    assert ended.returncode == 141
    assert ended.stderr in (None, b"")
