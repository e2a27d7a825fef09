"""`understudy summary` and `compare`, without Prefect."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from core.store import Store
from tests.core.summary.making import GOLD, predicted, put, write_facts, write_rows, write_run
from tests.flows.running import understudy

ON_DISK = pytest.mark.parametrize("root", ["disk"], indirect=True)
IN_TURN = pytest.mark.parametrize("root", ["disk", "s3"], indirect=True)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@IN_TURN
@pytest.mark.parametrize(
    ("arguments", "message", "head"),
    [
        ([], "wrote summary.csv: 2 runs, 12 rows", "# train"),
        (["--mode", "label_only"], "wrote summary.csv: 2 runs, 6 rows", "# train"),
        (["--format", "tidy", "--output", "new/t.csv"], "wrote new/t.csv: 2 runs, 12 rows", "run,split,mode"),
        (["--format", "html"], "wrote summary.html: 2 runs, 12 rows", "<!doctype html>"),
    ],
)
def test_summary_reports_what_it_wrote(
    store: Store, root: str, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str, head: str
) -> None:
    for name in ("a", "b"):
        write_run(store, name)
        write_facts(store, name)
    assert understudy("summary", "--root", root, *arguments) == 0
    out, err = capsys.readouterr()
    assert (out, err) == (f"{message}\n", "")
    assert Path(message.split()[1].rstrip(":")).read_text(encoding="utf-8").lstrip().startswith(head)


@ON_DISK
def test_skipped_files_are_named_and_counted_without_failing(
    store: Store, root: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(store, "a", splits=["test"])
    put(store, "runs/b/student_phase/metrics_test.json", "{")
    put(store, "runs/notes.txt", "mine")
    assert understudy("summary", "--root", root) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "wrote summary.csv: 1 run, 2 rows",
        "2 warnings: these were skipped, or have empty cells",
    ]
    assert [line.split(" (")[0] for line in err.splitlines()] == [
        "warning: runs/b/student_phase/metrics_test.json: not JSON",
        "warning: runs/notes.txt: is a file; runs are folders",
    ]


@IN_TURN
def test_an_empty_root_is_reported_and_nothing_is_written(
    root: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert understudy("summary", "--root", root) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"no runs with metrics under {root}")
    assert err == ""
    assert list(Path.cwd().iterdir()) == []


@ON_DISK
def test_an_unwritable_output_is_one_message(
    store: Store, root: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(store, "a")
    Path("taken").mkdir()
    assert understudy("summary", "--root", root, "--output", "taken") == 1
    assert capsys.readouterr().err.startswith("error: cannot write taken: Is a directory; ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["summary", "--mode", "all"], "Invalid value for '--mode'"),
        (["summary", "--format", "xls"], "Invalid value for '--format'"),
        (["compare", "a", "b", "--root", "none"], "run a does not exist under"),
        (["compare", "a", "b", "--split", "all"], "Invalid value for '--split'"),
        (["compare", "a"], "Missing argument 'B'"),
        (["summary", "--root", "gs://b/x"], "error: run.root: gs://b/x: only folders and s3://"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert understudy(*arguments) == 2
    assert sentence in capsys.readouterr().err


BEFORE = {"t1": 1, "t2": 0, "t3": 0, "t4": 1, "t5": 0}
AFTER = {"t1": 1, "t2": 1, "t3": 1, "t4": 0, "t5": 0}
SAME = """A is run before, B is run after
5 texts of test in both, with the same gold label
  fixed (A wrong, B right)         2
  broken (A right, B wrong)        1
  both wrong                       1
  both right                       1
  accuracy  A 0.400  B 0.600
  macro-F1  A 0.400  B 0.583
no difference shown between B and A in accuracy: +0.200 (95 % interval; McNemar's exact test, p = 1)
no difference shown between B and A in macro-F1: +0.183 (95 % interval); their labels differ on 3 rows, \
and fewer than 6 show nothing.

fixed (A wrong, B right):
  t3  gold 1  A 0 (P 0.250)  B 1 (P 0.750)  text of t3
  t4  gold 0  A 1 (P 0.750)  B 0 (P 0.250)  text of t4

broken (A right, B wrong):
  t2  gold 0  A 0 (P 0.250)  B 1 (P 0.750)  text of t2
"""


@IN_TURN
def test_two_runs_are_compared_text_by_text(
    store: Store, root: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(store, "before", predicted(BEFORE))
    write_rows(store, "after", predicted(AFTER))
    assert understudy("compare", "before", "after", "--root", root) == 0
    out = capsys.readouterr().out
    assert re.sub(r"interval [-+.\d]+ to [-+.\d]+", "interval", out) == SAME
    assert list(Path.cwd().iterdir()) == []


@ON_DISK
def test_compare_shows_differing_data_first_and_omissions_last(
    store: Store, root: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(store, "before", predicted(BEFORE))
    rows = predicted({**AFTER, "x": 1}, {**GOLD, "x": 1}, {"t2": "other"})
    write_rows(store, "after", rows, dataset="data2")
    assert understudy("compare", "before", "after", "--root", root) == 0
    first, *_, title, other, only = capsys.readouterr().out.splitlines()
    assert first.startswith(
        "The runs used different splits of the data (dataset fingerprints data1 and data2)"
    )
    assert title == "Left out:"
    assert other == "  1: the text differs (t2)"
    assert only == "  1: only B has it (x)"


@ON_DISK
def test_the_terminal_shows_ten_texts_and_the_files_all(
    store: Store, root: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [f"t{i:02}" for i in range(30)]
    gold = dict.fromkeys(ids, 1)
    texts = {ids[0]: 'comma, "quote"\x1b[31m\nline', ids[1]: "long " * 100}
    write_rows(store, "a", predicted(dict.fromkeys(ids, 0), gold, texts))
    write_rows(store, "b", predicted({i: int(n < 25) for n, i in enumerate(ids)}, gold, texts))
    assert understudy("compare", "a", "b", "--root", root, "--output", "out/ab") == 0
    out = capsys.readouterr().out
    assert "fixed (A wrong, B right), the first 10 of 25:" in out
    shown = [line for line in out.splitlines() if line.startswith("  t")]
    assert [line.split()[0] for line in shown] == ids[:10]
    assert shown[0].endswith('  comma, "quote" [31m line')
    assert max(map(len, shown)) < 220
    assert "B is right more often: +0.833 (95 % interval " in out
    assert "; McNemar's exact test, p = 5.96e-08)" in out
    assert out.splitlines()[-3:] == [
        f"wrote out/ab/{name}" for name in ("comparison.json", "changed.csv", "left_out.csv")
    ]
    with Path("out/ab/changed.csv").open(encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    assert [row["outcome"] for row in rows] == ["fixed"] * 25 + ["both_wrong"] * 5
    assert rows[0]["text"] == texts[ids[0]]
    assert rows[0]["b_reasoning"] == "since t00"
    content = json.loads(Path("out/ab/comparison.json").read_text(encoding="utf-8"))
    assert (content["fixed"], content["broken"], content["both_wrong"]) == (25, 0, 5)
    assert Path("out/ab/left_out.csv").read_text(encoding="utf-8") == "example_id,why\n"
