"""A table is answered in parts: completely, in order, and each part once."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pyarrow.parquet
import pytest

from core.errors import RowsFailed, StoreError, UserError
from core.predict import Prediction, Student
from core.predict import job as jobs
from core.predict.job import Job, JobResult, locked, run
from core.progress import Silent
from tests.small_project import texts

SMALL = 16


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty rows in four parts."""
    monkeypatch.setattr(jobs, "PART_ROWS", SMALL)


def answer(job: Job, student: Callable[[], Lent], **how: bool) -> JobResult:
    with locked(job, **how) as rows:
        return run(job, cast(Any, student), rows)


def written(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as f:
        return list(csv.DictReader(f))


class Stops(Exception):
    """A simulated crash."""


class Lent:
    """The student of the fixture, which counts texts, crashes after some calls, and stays open."""

    def __init__(self, student: Student, calls: int = 99) -> None:
        self.student, self.calls, self.texts = student, calls, 0

    def __call__(self, given: list[str], **how: Any) -> list[Prediction]:
        if self.calls == 0:
            raise Stops
        self.calls -= 1
        self.texts += len(given)
        return self.student(given, **how)

    def close(self) -> None:
        """The fixture closes the student."""


@pytest.fixture
def lent(student: Student) -> Lent:
    return Lent(student)


def test_every_row_is_answered_in_order(job: Job, lent: Lent) -> None:
    found = answer(job, lambda: lent)
    rows = written(job.output)
    assert [row["id"] for row in rows] == [id_ for id_, _, _ in texts()]
    assert (found.rows, found.unanswered, found.reused) == (60, 0, 0)
    assert found.errors == sum(row["error"] != "" for row in rows)
    # The small student puts its probability on neither label, so every row is invalid.
    assert {row["error"] for row in rows} == {
        "100.0% of the probability is on neither label; evaluations count such a row as invalid"
    }
    expected = [p.probability for p in lent.student([text for _, text, _ in texts()])]
    assert [float(row["probability"]) for row in rows] == pytest.approx(expected, abs=1e-6)
    assert list(rows[0]) == ["id", "label", "probability", "threshold", "error"]
    assert sorted(p.name for p in Path(job.output).parent.iterdir()) == ["new.csv", "out.csv"]


def test_parts_answered_before_a_crash_are_reused(job: Job, lent: Lent) -> None:
    dies, lives = Lent(lent.student, 2), Lent(lent.student)
    with pytest.raises(Stops):
        answer(job, lambda: dies)
    assert not Path(job.output).exists()
    found = answer(job, lambda: lives)
    assert (dies.texts, lives.texts, found.reused) == (32, 28, 32)
    whole = replace(job, output=job.output.replace("out", "whole"))
    answer(whole, lambda: lent)
    assert Path(job.output).read_bytes() == Path(whole.output).read_bytes()


def test_an_unreadable_input_leaves_no_files(job: Job, lent: Lent, table: Path) -> None:
    table.write_text("id,other\na,b\n")
    with pytest.raises(UserError):
        answer(job, lambda: lent)
    assert [p.name for p in Path(job.output).parent.iterdir()] == ["new.csv"]


def test_parts_without_their_job_file_are_not_reused(job: Job, lent: Lent) -> None:
    """A kill while the parts are removed can leave answers without their job file."""
    with pytest.raises(Stops):
        answer(job, lambda: Lent(lent.student, 2))
    (job.parts / "job.json").unlink()
    assert answer(job, lambda: lent).reused == 0


def test_a_fully_answered_job_loads_no_model(job: Job, lent: Lent) -> None:
    with locked(job) as rows:
        assert jobs.answer(job, range(4), rows, cast(Any, lambda: lent), Silent()) == 60
        found = run(job, lambda: pytest.fail("the model was loaded"), rows)
    assert found.reused == found.rows == 60


def test_all_output_formats_have_the_same_content(job: Job, lent: Lent, tmp_path: Path) -> None:
    lines = replace(job, output=str(tmp_path / "out.jsonl"), format="jsonl", reasoning=True)
    table = replace(job, output=str(tmp_path / "out.parquet"), format="parquet", reasoning=True)
    answer(lines, lambda: lent)
    answer(table, lambda: lent)
    found = [json.loads(line) for line in Path(lines.output).read_text().splitlines()]
    assert pyarrow.parquet.read_table(table.output).to_pylist() == found
    assert list(found[0]) == ["id", "label", "probability", "threshold", "error", "reasoning", "rules"]


def test_a_bad_row_is_written_with_its_error(job: Job, lent: Lent, table: Path) -> None:
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines[:2], "bad,", *lines[2:]]) + "\n")
    found = answer(job, lambda: lent)
    rows = written(job.output)
    assert (rows[1]["id"], rows[1]["label"], rows[1]["probability"]) == ("bad", "", "")
    assert "new.csv:3: the text is empty" in rows[1]["error"]
    assert found.unanswered == 1


def test_errors_in_reused_parts_are_counted(job: Job, lent: Lent, table: Path) -> None:
    """One row is written for each row, in order; a part has 16 rows."""
    good = [(id_, text.replace(",", "")) for id_, text, _ in texts()]
    lines = ["id,text,", *(f"{id_},{text}," for id_, text in good)]
    for at, bad in (
        (2, "x1,"),
        (5, "x2,a, b, c"),
        (40, 'x3,"opens'),
        (41, "x4,nul\0"),
        (50, "x5,said, that"),
    ):
        lines.insert(at, bad)
    table.write_text("\n".join(lines) + "\n")
    with pytest.raises(Stops):
        answer(job, lambda: Lent(lent.student, 2))
    found = answer(job, lambda: lent)
    # The small student puts its probability on neither label, so that its own answers have errors too.
    assert (found.rows, found.reused, found.errors, found.unanswered, found.overflow) == (65, 32, 65, 4, 1)
    rows = written(job.output)
    assert [i for i, row in enumerate(rows) if not row["label"]] == [1, 4, 39, 40]
    ids = [row["id"] for row in rows]
    assert [id_ for i, id_ in enumerate(ids) if i not in (1, 4, 39, 40, 49)] == [id_ for id_, _ in good]
    assert ids[49] == "x5"


def test_a_job_fails_without_any_answer_or_with_unaccepted_errors(job: Job, lent: Lent, table: Path) -> None:
    found = JobResult("out.csv", rows=3, errors=2, unanswered=1)
    found.check(fail_on_error=False)
    with pytest.raises(RowsFailed, match="2 of 3 rows have an error"):
        found.check(fail_on_error=True)
    table.write_text("id,text\nx1,\nx2,a,b\n")
    with pytest.raises(UserError, match="no row could be answered"):
        answer(job, lambda: lent).check(fail_on_error=False)
    assert [row["id"] for row in written(job.output)] == ["x1", ""]


def test_an_existing_output_is_replaced_only_with_overwrite(job: Job, lent: Lent) -> None:
    Path(job.output).write_text("mine")
    with pytest.raises(UserError, match="add --overwrite"):
        answer(job, lambda: lent)
    assert Path(job.output).read_text() == "mine"
    assert answer(job, lambda: lent, overwrite=True).rows == 60


def test_an_unwritable_output_is_refused_before_the_model_is_loaded(
    job: Job, lent: Lent, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="is a folder; name a file in it"):
        answer(replace(job, output=str(tmp_path)), lambda: lent)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write .*; free disk space, or name another output"):
        answer(replace(job, output=str(tmp_path / "file/out.csv")), lambda: lent)
    assert lent.texts == 0


def test_parts_of_another_job_are_refused(job: Job, lent: Lent, table: Path) -> None:
    dies = Lent(lent.student, 1)
    with pytest.raises(Stops):
        answer(job, lambda: dies)
    table.write_text(table.read_text().replace("prize", "price"))
    with pytest.raises(UserError, match=r"another job \(input differs\).*--restart"):
        answer(job, lambda: lent)
    assert answer(job, lambda: lent, restart=True).reused == 0


def test_two_jobs_cannot_write_one_output(job: Job, lent: Lent) -> None:
    with locked(job), pytest.raises(UserError, match="another process is writing"), locked(job):
        pytest.fail("both hold it")
