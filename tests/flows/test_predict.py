"""The command and the flow that answer a table have the same output."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from core.errors import RowsFailed, UserError
from core.predict import job
from tests.flows.running import understudy
from tests.small_project import texts

if TYPE_CHECKING:
    from core.predict import Runner


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Sixty texts with ids, one of them empty."""
    path = tmp_path / "new.csv"
    rows = [(id_, "" if id_ == "t07" else text) for id_, text, _ in texts()]
    with path.open("w", newline="") as f:
        csv.writer(f).writerows([("id", "text"), *rows])
    return path


def test_a_table_is_answered_by_the_command(
    bundle: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = table.with_name("out.csv")
    given = ("predict", "--model", bundle, "--input", table, "--id-column", "id", "--output", out)
    assert understudy(*given) == 0
    with out.open(newline="") as f:
        rows = list(csv.DictReader(f))
    assert [row["id"] for row in rows] == [id_ for id_, _, _ in texts()]
    assert [row["id"] for row in rows if row["label"] == ""] == ["t07"]
    assert all("is on neither label" in row["error"] for row in rows if row["label"] != "")
    assert "60 rows in" in (messages := capsys.readouterr().err)
    assert "60 have an error" in messages
    assert understudy(*given) == 2
    assert "add --overwrite" in capsys.readouterr().err


def test_texts_and_standard_input_are_answered_on_standard_output(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert understudy("predict", "--model", bundle, "--text", "You have won", "--text", " ") == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["label"] in ("0", "1")
    assert second["error"] == "the text is empty"
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"You have won\nSee you")))
    assert understudy("predict", "--model", bundle, "--output-format", "csv") == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [float(lines[0]["probability"])] == pytest.approx([first["probability"]], abs=1e-6)
    assert len(lines) == 2


def test_row_errors_exit_with_1_only_with_fail_on_error(
    bundle: Path, table: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table, with a row that has too many fields, and standard input.

    The small student assigns its probability to neither label, so that its answer has an error, too.
    """
    out = table.with_name("out.jsonl")
    table.write_text("id,text\nr0,See you at lunch\nr1,You have won, call now\n")
    given = ("predict", "--model", bundle, "--input", table, "--id-column", "id")
    assert understudy(*given, "--output", out, "--fail-on-error") == 1
    rows = list(map(json.loads, out.read_text().splitlines()))
    assert [(row["id"], row["label"] is None) for row in rows] == [("r0", False), (None, True)]
    assert "3 fields where the header has 2" in rows[1]["error"]
    assert "2 of 2 rows have an error" in capsys.readouterr().err
    assert understudy(*given) == 0
    printed = capsys.readouterr()
    assert list(map(json.loads, printed.out.splitlines())) == rows
    assert "2 rows in standard output; 2 have an error" in printed.err
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"See you\nnul\0\n")))
    assert understudy("predict", "--model", bundle, "--fail-on-error") == 1
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--text", "a", "--input", "b.csv"), "leave --input and --output out"),
        (("--input", "-", "--output", "b.csv"), "standard input is answered on standard output"),
        (("--model", "nobody", "--text", "a"), "no model nobody is published under"),
        (("--input", "none.csv", "--output", "b.csv"), "does not exist"),
        (("--input", "new.csv", "--output", "b.xls"), "end it in .csv, .jsonl or .parquet"),
        (("--input", "new.csv", "--text-column", "body", "--output", "b.csv"), "has no column 'body'"),
        (("--input", "new.csv", "--runner", "dask"), "need an --output file"),
    ],
)
def test_a_mistake_is_one_message(
    bundle: Path,
    table: Path,
    arguments: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(table.parent)
    assert understudy("predict", "--model", bundle, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    "runner", ["threads", *(pytest.param(name, marks=pytest.mark.slow) for name in ("dask", "ray"))]
)
def test_every_runner_writes_the_same_bytes(
    bundle: Path, table: Path, runner: Runner, prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if runner != "threads" and importlib.util.find_spec(f"prefect_{runner}") is None:
        pytest.skip(f"understudy-distill[{runner}] is not installed")
    from flows.predict import predict

    monkeypatch.setattr(job, "PART_ROWS", 16)
    monkeypatch.setattr("core.predict.job.PART_ROWS", 16)
    alone, out = table.with_name("alone.csv"), table.with_name(f"{runner}.csv")
    asked = ("--model", bundle, "--input", table, "--id-column", "id", "--threads", 1)
    assert understudy("predict", *asked, "--output", alone) == 0
    found = predict(
        str(table),
        str(out),
        str(bundle),
        id_column="id",
        runner=runner,
        workers=2,
        threads=1,
    )
    assert (found.rows, found.unanswered) == (60, 1)
    assert out.read_bytes() == alone.read_bytes()


def test_the_flow_fails_on_row_errors_with_fail_on_error(
    bundle: Path, table: Path, prefect_server: None
) -> None:
    from flows.predict import predict

    out = table.with_name("out.jsonl")
    with pytest.raises(RowsFailed) as stopped:
        predict(str(table), str(out), str(bundle), fail_on_error=True)
    assert stopped.value.exit_code == 1
    assert len(out.read_text().splitlines()) == 60


def test_a_runner_that_is_not_installed_is_named(
    bundle: Path, table: Path, prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.predict import predict

    monkeypatch.setitem(sys.modules, "prefect_dask", None)
    with pytest.raises(UserError, match=r"pip install 'understudy-distill\[dask\]'"):
        predict(str(table), str(table.with_name("out.csv")), str(bundle), runner="dask")


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_answers_on_a_console_of_another_encoding_are_utf8(
    bundle: Path, table: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.write_text("id,text\nпривет 🎁,You have won\n", encoding="utf-8")
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "cp1252"))
    given = ("predict", "--model", bundle, "--input", table, "--id-column", "id", "--output-format", kind)
    assert understudy(*given) == 0
    assert "привет 🎁" in written.getvalue().decode("utf-8")
