"""`understudy summary` and `compare` as they are typed, without Prefect."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from core.store.objects import Store
from flows.cli import main
from tests.core.summary.making import put, write_facts, write_run

ON_DISK = pytest.mark.parametrize("root", ["disk"], indirect=True)
IN_TURN = pytest.mark.parametrize("root", ["disk", "s3"], indirect=True)


def understudy(*arguments: str) -> int:
    with pytest.raises(SystemExit) as e:
        main(list(arguments))
    assert isinstance(e.value.code, int)
    return e.value.code


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.mark.parametrize("command", ["summary"])
def test_help_is_quick_to_import(command: str) -> None:
    code = (
        "import sys; from flows.cli import main\n"
        f"try: main(['{command}', '--help'])\n"
        "except SystemExit: pass\n"
        "print({'prefect', 'torch', 'transformers', 'pandas', 'pydantic', 's3fs', 'yaml', 'jinja2'} "
        "& set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "set()"


@IN_TURN
@pytest.mark.parametrize(
    ("arguments", "said", "head"),
    [
        ([], "wrote summary.csv: 2 runs, 12 rows", "# train"),
        (["--mode", "label_only"], "wrote summary.csv: 2 runs, 6 rows", "# train"),
        (["--format", "tidy", "--output", "new/t.csv"], "wrote new/t.csv: 2 runs, 12 rows", "run,split,mode"),
        (["--format", "html"], "wrote summary.html: 2 runs, 12 rows", "<!doctype html>"),
    ],
)
def test_a_summary_says_what_it_wrote(
    store: Store, root: str, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str, head: str
) -> None:
    for name in ("a", "b"):
        write_run(store, name)
        write_facts(store, name)
    assert understudy("summary", "--root", root, *arguments) == 0
    out, err = capsys.readouterr()
    assert (out, err) == (f"{said}\n", "")
    assert Path(said.split()[1].rstrip(":")).read_text(encoding="utf-8").startswith(head)


@ON_DISK
def test_what_is_passed_over_is_named_and_counted_and_is_no_failure(
    store: Store, root: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(store, "a", splits=["test"])
    put(store, "runs/b/student_phase/metrics_test.json", "{")
    put(store, "runs/notes.txt", "mine")
    assert understudy("summary", "--root", root) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "wrote summary.csv: 1 run, 2 rows",
        "2 warnings: what is named there was passed over",
    ]
    assert [line.split(" (")[0] for line in err.splitlines()] == [
        "warning: runs/b/student_phase/metrics_test.json: not JSON",
        "warning: runs/notes.txt: a file, where runs are folders",
    ]


@IN_TURN
def test_an_empty_root_is_said_and_nothing_is_written(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert understudy("summary", "--root", root) == 0
    out, err = capsys.readouterr()
    assert (
        out == f"there are no runs with metrics under {root} (in its folder runs/), so nothing is written\n"
    )
    assert err == ""
    assert list(Path.cwd().iterdir()) == []


@ON_DISK
def test_an_output_that_cannot_be_written_is_a_sentence(
    store: Store, root: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(store, "a")
    Path("taken").mkdir()
    assert understudy("summary", "--root", root, "--output", "taken") == 1
    error = "error: cannot write taken: Is a directory; name another place with --output\n"
    assert capsys.readouterr().err == error


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["summary", "--mode", "all"], "Invalid value for '--mode'"),
        (["summary", "--format", "xls"], "Invalid value for '--format'"),
        (["summary", "--root", "gs://b/x"], "error: run.root: gs://b/x: only folders and s3://"),
    ],
)
def test_a_mistake_is_a_sentence_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert understudy(*arguments) == 2
    assert sentence in capsys.readouterr().err
