"""A table is answered in parts: in order, whole, and never twice."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.durable import user_cache
from core.engines import Device
from core.errors import DataError, RowsFailed, StoreError, UserError
from core.export.bundle import Bundle
from core.predict import PredictOptions, Student
from core.predict import job as jobs
from core.predict.job import Job, JobResult, locked, run, shards
from core.predict.table_io import TextSource
from core.progress import Silent
from tests.core.predict.scoring import HashedSampler, student_of
from tests.forking import kill, was_killed
from tests.small_project import texts

SMALL = 16


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty rows in four parts."""
    monkeypatch.setattr(jobs, "PART_ROWS", SMALL)


@pytest.fixture
def table(folder: Path) -> Path:
    """Sixty texts with ids."""
    path = folder / "new.csv"
    with path.open("w", newline="") as f:
        csv.writer(f).writerows([("id", "text"), *((id_, text) for id_, text, _ in texts())])
    return path


@pytest.fixture
def job(opened: Bundle, table: Path, folder: Path) -> Job:
    """The table answered into a CSV next to it."""
    return Job(opened.folder, TextSource(str(table), id_column="id"), str(folder / "out.csv"), "csv")


@pytest.fixture
def sampler() -> HashedSampler:
    """It counts the texts that it scores."""
    return HashedSampler()


@pytest.fixture
def answering(opened: Bundle, sampler: HashedSampler) -> Student:
    """A student that scores with it."""
    return student_of(opened, sampler)


def answer(job: Job, student: Student, **how: bool) -> JobResult:
    with locked(job, **how) as rows:
        return run(job, lambda: student, rows)


def names() -> list[str]:
    """What is in the working directory."""
    return sorted(path.name for path in Path().iterdir())


def never() -> Student:
    pytest.fail("the model was loaded")


def written(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as f:
        return list(csv.DictReader(f))


class Stops(Exception):
    """An error while a part is answered."""


def stopping(opened: Bundle, part: int) -> Student:
    """A student that fails at a part, from 0."""

    def stop(batch: int) -> None:
        if batch == part:
            raise Stops

    return student_of(opened, HashedSampler(stop))


def killed(job: Job, opened: Bundle, part: int) -> bool:
    """Answer the job in a process that is killed at a part, from 0."""
    student = student_of(opened, HashedSampler(lambda batch: kill() if batch == part else None))
    return was_killed(lambda: answer(job, student))


def test_every_row_is_answered_in_order(job: Job, answering: Student, sampler: HashedSampler) -> None:
    found = answer(job, answering)
    rows = written(job.output)
    assert [row["id"] for row in rows] == [id_ for id_, _, _ in texts()]
    assert (found.rows, found.errors, found.unanswered, found.reused) == (60, 0, 0, 0)
    assert (sampler.texts, sampler.batches) == (60, 4)
    expected = answering([text for _, text, _ in texts()])
    assert [float(row["probability"]) for row in rows] == [p.probability for p in expected]
    assert [row["label"] for row in rows] == [p.label for p in expected]
    assert list(rows[0]) == ["id", "label", "probability", "threshold", "error"]
    assert names() == ["new.csv", "out.csv"]


@pytest.mark.parametrize("part", [0, 1, 3])
def test_parts_answered_before_a_kill_are_reused(
    job: Job, opened: Bundle, answering: Student, sampler: HashedSampler, part: int
) -> None:
    assert killed(job, opened, part)
    assert not Path(job.output).exists()
    found = answer(job, answering)
    assert (sampler.texts, found.reused) == (60 - SMALL * part, SMALL * part)
    whole = replace(job, output="whole.csv")
    answer(whole, answering)
    assert Path(job.output).read_bytes() == Path(whole.output).read_bytes()
    assert names() == ["new.csv", "out.csv", "whole.csv"]


def test_an_error_keeps_the_parts_before_it(job: Job, opened: Bundle, answering: Student) -> None:
    with pytest.raises(Stops):
        answer(job, stopping(opened, 2))
    assert answer(job, answering).reused == 2 * SMALL


def test_a_half_written_part_is_answered_again(
    job: Job, opened: Bundle, answering: Student, sampler: HashedSampler
) -> None:
    """A kill between writing and renaming a part leaves a temporary file among the parts."""
    assert killed(job, opened, 2)
    whole = job.answered(1).read_bytes()
    (job.parts / ".0a1b2c3d.tmp.jsonl").write_bytes(whole)
    (job.parts / ".4e5f6071.tmp.jsonl").write_bytes(whole[: len(whole) // 2])
    assert answer(job, answering).rows == 60
    assert sampler.texts == 60 - 2 * SMALL
    assert [row["id"] for row in written(job.output)] == [id_ for id_, _, _ in texts()]


def test_a_part_that_is_lost_is_answered_again(job: Job, opened: Bundle, answering: Student) -> None:
    assert killed(job, opened, 3)
    job.answered(1).unlink()
    assert answer(job, answering).reused == 2 * SMALL
    assert [row["id"] for row in written(job.output)] == [id_ for id_, _, _ in texts()]


def test_parts_that_lack_rows_are_never_an_output(job: Job, opened: Bundle, answering: Student) -> None:
    assert killed(job, opened, 3)
    lines = job.answered(1).read_text().splitlines(keepends=True)
    job.answered(1).write_text("".join(lines[1:]))
    with pytest.raises(StoreError, match=r"59 answered rows, but the input had 60.*--restart"):
        answer(job, answering)
    assert not Path(job.output).exists()
    assert answer(job, answering, restart=True).rows == 60


def test_an_unreadable_input_leaves_no_files(job: Job, table: Path, answering: Student) -> None:
    table.write_text("id,other\na,b\n")
    with pytest.raises(UserError, match="no column 'text'"):
        answer(job, answering)
    assert names() == ["new.csv"]
    with pytest.raises(DataError, match=r"nwe\.csv does not exist.*new\.csv"):
        answer(replace(job, source=TextSource("nwe.csv")), answering)
    assert names() == ["new.csv"]


def test_parts_without_their_job_file_are_not_reused(job: Job, opened: Bundle, answering: Student) -> None:
    """A kill while the parts are removed can leave answers whose job is gone."""
    assert killed(job, opened, 2)
    (job.parts / "job.json").unlink()
    assert answer(job, answering).reused == 0


def test_a_fully_answered_job_loads_no_model(job: Job, answering: Student) -> None:
    with locked(job) as rows:
        assert jobs.answer(job, range(4), rows, lambda: answering, Silent()) == 60
        found = run(job, never, rows)
    assert found.reused == found.rows == 60


def test_progress_counts_all_rows_and_never_falls(job: Job, opened: Bundle, answering: Student) -> None:
    class Seen:
        def __init__(self) -> None:
            self.done: list[tuple[int, int]] = []

        def update(self, done: int, total: int, note: str = "") -> None:
            self.done.append((done, total))

    assert killed(job, opened, 1)
    seen = Seen()
    with locked(job) as rows:
        run(job, lambda: answering, rows, seen)
    counts = [done for done, _ in seen.done]
    assert counts == sorted(counts)
    assert (counts[0], seen.done[-1]) == (SMALL, (60, 60))
    assert {total for _, total in seen.done} == {60}


def test_all_output_formats_have_the_same_content(job: Job, answering: Student) -> None:
    lines = replace(job, output="out.jsonl", format="jsonl", reasoning=True)
    table = replace(job, output="out.parquet", format="parquet", reasoning=True)
    answer(lines, answering)
    answer(table, answering)
    found = [json.loads(line) for line in Path(lines.output).read_text().splitlines()]
    assert pyarrow.parquet.read_table(table.output).to_pylist() == found
    assert list(found[0]) == ["id", "label", "probability", "threshold", "error", "reasoning", "rules"]


def test_errors_in_reused_parts_are_counted(
    job: Job, opened: Bundle, answering: Student, table: Path
) -> None:
    """ROW2: one row written for each row, in order; a part is 16 rows."""
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
    assert killed(job, opened, 2)
    found = answer(job, answering)
    assert (found.rows, found.reused, found.errors, found.unanswered, found.overflow) == (65, 32, 4, 4, 1)
    rows = written(job.output)
    assert [i for i, row in enumerate(rows) if not row["label"]] == [1, 4, 39, 40]
    assert (rows[1]["id"], rows[1]["probability"]) == ("x1", "")
    assert "new.csv:3: the text is empty" in rows[1]["error"]
    ids = [row["id"] for row in rows]
    assert [id_ for i, id_ in enumerate(ids) if i not in (1, 4, 39, 40, 49)] == [id_ for id_, _ in good]
    assert ids[49] == "x5"


def test_a_job_fails_without_any_answer_or_with_unaccepted_errors(
    job: Job, answering: Student, sampler: HashedSampler, table: Path
) -> None:
    found = JobResult("out.csv", rows=3, errors=2, unanswered=1)
    found.check(fail_on_error=False)
    with pytest.raises(RowsFailed, match="2 of 3 rows have an error"):
        found.check(fail_on_error=True)
    table.write_text("id,text\nx1,\nx2,a,b\n")
    with pytest.raises(UserError, match="no row could be answered"):
        answer(job, answering).check(fail_on_error=False)
    assert sampler.batches == 0
    assert [row["id"] for row in written(job.output)] == ["x1", ""]


def test_an_existing_output_is_replaced_only_with_overwrite(job: Job, answering: Student) -> None:
    Path(job.output).write_text("mine")
    with pytest.raises(UserError, match=r"out\.csv exists already.*--overwrite"):
        answer(job, answering)
    assert Path(job.output).read_text() == "mine"
    assert answer(job, answering, overwrite=True).rows == 60
    assert len(written(job.output)) == 60


def test_an_unwritable_output_is_refused_before_the_model_is_loaded(
    job: Job, answering: Student, sampler: HashedSampler, folder: Path
) -> None:
    with pytest.raises(UserError, match="work is a folder; name a file in it"):
        answer(replace(job, output=str(folder)), answering)
    (folder / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write .*; free disk space, or name another output"):
        answer(replace(job, output=str(folder / "file/out.csv")), answering)
    assert sampler.texts == 0


def test_an_output_in_a_new_folder_and_at_a_url_are_written(
    job: Job, opened: Bundle, answering: Student, folder: Path
) -> None:
    assert answer(replace(job, output="new/folder/out.csv"), answering).output == str(
        folder / "new/folder/out.csv"
    )
    remote = replace(job, output="memory://answers/out.csv")
    assert killed(remote, opened, 2)  # its parts are in the user's cache
    assert answer(remote, answering).reused == 2 * SMALL
    memory = fsspec.filesystem("memory")
    assert memory.cat_file("/answers/out.csv") == Path("new/folder/out.csv").read_bytes()
    assert list((user_cache() / "predict").iterdir()) == []
    with pytest.raises(UserError, match=r"memory://answers/out\.csv exists already"):
        answer(remote, answering)
    memory.rm("/answers", recursive=True)


CHANGES: list[tuple[str, Callable[[Job], Job]]] = [
    ("reasoning", lambda job: replace(job, reasoning=True)),
    ("weights", lambda job: replace(job, weights="merged")),
    ("id_column", lambda job: replace(job, source=replace(job.source, id_column=None))),
    ("encoding", lambda job: replace(job, source=replace(job.source, encoding="latin-1"))),
    ("quotes", lambda job: replace(job, source=replace(job.source, quotes=False))),
]


def test_parts_of_another_job_are_refused(
    job: Job, opened: Bundle, answering: Student, table: Path, folder: Path
) -> None:
    assert killed(job, opened, 1)
    for name, change in CHANGES:
        with pytest.raises(UserError, match=rf"another job \({name} differs\).*--restart"):
            answer(change(job), answering)
    other = folder / "bundle"
    other.mkdir()
    (other / "bundle.json").write_text("another bundle")
    with pytest.raises(UserError, match=r"another job \(bundle differs\)"):
        answer(replace(job, folder=other), answering)
    (folder / "copy.csv").write_bytes(table.read_bytes())
    same = replace(job, source=replace(job.source, url="copy.csv"), format="jsonl")
    with locked(same):
        pass  # the same texts under another name, in another format of the output
    table.write_text(table.read_text().replace("prize", "price"))
    with pytest.raises(UserError, match=r"another job \(input differs\).*--restart"):
        answer(job, answering)
    assert answer(job, answering, restart=True).reused == 0


def test_two_jobs_cannot_write_one_output(job: Job, opened: Bundle, answering: Student) -> None:
    with locked(job), pytest.raises(UserError, match=r"another process is writing .*out\.csv"), locked(job):
        pytest.fail("both hold it")
    assert killed(job, opened, 1)  # a killed process holds nothing
    assert answer(job, answering).rows == 60


@given(st.integers(0, 5000))
def test_shards_are_all_parts_in_order_and_no_more_than_allowed(rows: int) -> None:
    source = TextSource("t.csv")
    job = Job(Path("b"), source, "o.csv", "csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "PART_ROWS", SMALL)
        found = list(shards(job, rows, None, Device()))
    assert [i for shard in found for i in shard.parts] == list(range(math.ceil(rows / SMALL)))
    assert sum(shard.rows for shard in found) == rows
    assert [shard.number for shard in found] == list(range(len(found)))
    assert len(found) <= jobs.MOST_SHARDS
    assert all(0 < shard.rows <= SMALL * len(shard.parts) for shard in found)


def test_the_options_decide_the_job(opened: Bundle) -> None:
    options: dict[str, Any] = {"input": "in.tsv", "output": "out.pq", "reasoning": True, "weights": "merged"}
    job = Job.of(PredictOptions(**options), opened.folder)
    assert (job.output, job.format, job.reasoning, job.weights) == ("out.pq", "parquet", True, "merged")
    assert job.source == TextSource("in.tsv", text_column="text", second_choice="text")
    asked = Job.of(PredictOptions(**options, output_format="csv", text_column="body"), opened.folder)
    assert (asked.format, asked.source.text_column, asked.source.second_choice) == ("csv", "body", None)
    with pytest.raises(UserError, match=r"out\.xls: .*csv, \.jsonl or \.parquet"):
        Job.of(replace(PredictOptions(**options), output="out.xls"), opened.folder)
