"""Whatever a table holds: a row for each row, with its own answer, in every format and through any crash."""

from __future__ import annotations

import csv
import io
import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.export.bundle import Bundle
from core.predict import OutputFormat, Student
from core.predict import job as jobs
from core.predict.job import Job, JobResult, locked, run
from core.predict.table_io import (
    InputRow,
    TextSource,
    csv_writer,
    json_line,
    output_columns,
    output_format,
    write_output,
)
from core.progress import Silent
from tests.core.predict.scoring import HashedSampler, student_of

FORMATS: tuple[OutputFormat, ...] = get_args(OutputFormat)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufffd"), max_size=8)
"""Texts that tables can hold. Some are blank, many hold quotes, separators and line ends."""


@dataclass(frozen=True)
class Line:
    """A row of an input. Ids may occur twice."""

    id: str
    text: str
    label: str


LINES = st.lists(
    st.builds(
        Line,
        st.sampled_from(["a", "b", "é", "7"]),
        TEXTS | st.sampled_from(["", " \t", "a, b", '"quoted"', "two\nlines", "lone\rreturn"]),
        st.sampled_from(["0", "1", "spam"]),
    ),
    max_size=7,
)


def write_input(path: Path, kind: str, lines: Sequence[Line], *, labeled: bool = True) -> None:
    """Write the rows with columns that predictions ignore."""
    rows = [
        {"note": "x", "id": e.id, "text": e.text, **({"label": e.label} if labeled else {})} for e in lines
    ]
    names = ["note", "id", "text", *(["label"] if labeled else [])]
    if kind == "parquet":
        columns = {name: pyarrow.array([row[name] for row in rows], pyarrow.string()) for name in names}
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="", encoding="utf-8") as f:
            writer = csv.DictWriter(f, names, quoting=csv.QUOTE_ALL)
            writer.writeheader()
            writer.writerows(rows)


def read_output(path: Path, kind: str) -> list[dict[str, Any]]:
    """The rows as other programs read them; an empty field of a CSV is None. NaN is an error."""
    if kind == "parquet":
        return list(pyarrow.parquet.read_table(path).to_pylist())
    if kind == "jsonl":
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        return [json.loads(line, parse_constant=pytest.fail) for line in lines]
    with path.open(encoding="utf-8", newline="") as f:
        header, *rows = csv.reader(f, strict=True)
    found = [{name: field or None for name, field in zip(header, row, strict=True)} for row in rows]
    numbers = ("probability", "threshold")
    return [{k: float(v) if v and k in numbers else v for k, v in row.items()} for row in found]


def answered(job: Job, student: Student) -> JobResult:
    with locked(job) as rows:
        return run(job, lambda: student, rows)


class Stops(Exception):
    """An error while a part is answered."""


@given(LINES, st.sampled_from(["csv", "jsonl", "parquet"]), st.sampled_from(FORMATS), st.data())
def test_each_row_has_its_own_answer_in_any_parts_and_after_a_crash(
    opened: Bundle, lines: list[Line], kind: str, out: OutputFormat, data: st.DataObject
) -> None:
    part_rows, stop = data.draw(st.integers(1, 4)), data.draw(st.none() | st.integers(0, 3))
    if kind == "jsonl" and not lines:
        return  # a file without a byte is refused

    def stopping(batch: int) -> None:
        if batch == stop:
            raise Stops

    crashing, whole, alone = (HashedSampler(on, odd=True) for on in (stopping, None, None))
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "PART_ROWS", part_rows)
        folder = Path(name)
        write_input(folder / "in", kind, lines)
        source = TextSource(str(folder / "in"), kind, id_column="id")  # type: ignore[arg-type]
        job = Job(opened.folder, source, str(folder / "out"), out)
        try:
            found = answered(job, student_of(opened, crashing))
        except Stops:
            assert not (folder / "out").exists()
            found = answered(job, student_of(opened, whole))
        assert sorted(path.name for path in folder.iterdir()) == ["in", "out"]
        rows = read_output(folder / "out", out)
    sound = [bool(line.text.strip()) for line in lines]
    assert crashing.texts + whole.texts == sum(sound), "no text is scored twice"
    assert [row["id"] for row in rows] == [line.id for line in lines]
    assert (found.rows, found.errors) == (len(lines), sum(row["error"] is not None for row in rows))
    one = student_of(opened, alone)
    for row, line, is_sound in zip(rows, lines, sound, strict=True):
        assert list(row) == output_columns(reasoning=False)
        if not is_sound:
            assert (row["label"], row["probability"]) == (None, None)
            assert row["error"].endswith("the text is empty")
            continue
        (alone_found,) = one([line.text])
        assert (row["label"], row["error"]) == (alone_found.label, alone_found.error)
        assert (row["probability"], row["threshold"]) == (alone_found.probability, 0.5)


@pytest.mark.parametrize("out", FORMATS)
@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet", "lines"])
def test_a_table_without_rows_has_an_output_without_rows(
    opened: Bundle, folder: Path, kind: str, out: OutputFormat
) -> None:
    if kind == "parquet":
        write_input(folder / "in", kind, [])
    else:
        (folder / "in").write_text({"csv": "id,text\n", "tsv": "id\ttext\n"}.get(kind, ""))
    source = TextSource("in", kind, id_column=None if kind == "lines" else "id")  # type: ignore[arg-type]
    job = Job(opened.folder, source, "out", out)
    with locked(job) as rows:
        found = run(job, lambda: pytest.fail("the model was loaded"), rows)
    found.check(fail_on_error=True)
    assert (found.rows, read_output(folder / "out", out)) == (0, [])
    if out == "csv":
        assert (folder / "out").read_text() == "id,label,probability,threshold,error\n"


def test_a_column_of_labels_changes_nothing(opened: Bundle, folder: Path) -> None:
    lines = [Line("a", "You have won", "spam"), Line("a", "See you", "ham")]
    student = student_of(opened, HashedSampler())
    for labeled in (True, False):
        write_input(folder / f"{labeled}.csv", "csv", lines, labeled=labeled)
        answered(Job(opened.folder, TextSource(f"{labeled}.csv"), f"{labeled}.jsonl", "jsonl"), student)
    assert (folder / "True.jsonl").read_bytes() == (folder / "False.jsonl").read_bytes()
    assert len(read_output(folder / "True.jsonl", "jsonl")) == 2


def test_one_column_may_be_both_text_and_id(opened: Bundle, folder: Path) -> None:
    (folder / "in.csv").write_text("text\n You have won \n")
    job = Job(opened.folder, TextSource("in.csv", id_column="text"), "out.jsonl", "jsonl")
    answered(job, student_of(opened, HashedSampler()))
    (row,) = read_output(folder / "out.jsonl", "jsonl")
    assert row["id"] == "You have won"


def probability(opened: Bundle, text: str) -> float:
    (found,) = student_of(opened, HashedSampler())([text])
    assert found.probability is not None
    return found.probability


@given(TEXTS.filter(str.strip))
def test_a_probability_at_the_threshold_is_positive_and_one_below_is_not(opened: Bundle, text: str) -> None:
    positive, negative = (opened.contents.labels.positive[0], opened.contents.labels.negative[0])
    p = probability(opened, text)
    for threshold, label in (
        (p, positive),
        (math.nextafter(p, 1), negative),
        (math.nextafter(p, 0), positive),
    ):
        (found,) = student_of(opened, HashedSampler(), threshold)([text])
        assert (found.label, found.probability, found.threshold) == (label, p, threshold)


@pytest.mark.parametrize("out", FORMATS)
def test_without_a_threshold_there_are_probabilities_and_no_labels(
    opened: Bundle, folder: Path, out: OutputFormat, caplog: pytest.LogCaptureFixture
) -> None:
    write_input(folder / "in.csv", "csv", [Line("a", "You have won", "1")])
    with caplog.at_level("WARNING"):
        student = student_of(opened, HashedSampler(), None)
    assert "no threshold" in caplog.messages[0]
    answered(Job(opened.folder, TextSource("in.csv"), "out", out), student)
    (row,) = read_output(folder / "out", out)
    expected = (None, None, probability(opened, "You have won"))
    assert (row["label"], row["threshold"], row["probability"]) == expected


def test_rows_that_a_server_failed_on_have_its_error_and_no_label(opened: Bundle) -> None:
    found = student_of(opened, HashedSampler(odd=True))([f"text {i}" for i in range(40)])
    failed = [p for p in found if p.error == "the server is busy"]
    unreached = [p for p in found if p.error is not None and p.error.startswith("no label was reached")]
    sound = [p for p in found if p.error is None]
    assert failed
    assert unreached
    assert sound
    assert len(failed) + len(unreached) + len(sound) == 40
    assert all((p.label, p.probability) == (None, None) for p in failed)
    assert all((p.label, p.probability) == ("0", None) for p in unreached)
    assert all(p.label is not None and p.probability is not None for p in sound)


def test_half_a_character_costs_its_row_alone(opened: Bundle, folder: Path) -> None:
    (folder / "in.jsonl").write_text(
        '{"id": "a", "text": "fine"}\n{"id": "b", "text": "\\ud83d"}\n{"text": "\\ud83d"}\n'
        '{"id": "c\\ud83d", "text": "fine"}\n'
    )
    for out in FORMATS:
        job = Job(opened.folder, TextSource("in.jsonl", id_column="id"), f"out.{out}", out)
        assert answered(job, student_of(opened, HashedSampler())).errors == 2
        rows = read_output(folder / f"out.{out}", out)
        assert [row["label"] is None for row in rows] == [False, True, True, False]
        assert [row["id"] for row in rows[:3]] == ["a", "b", None]
        assert "in.jsonl:2: it holds half a character" in rows[1]["error"]


FIELDS = st.none() | st.text(max_size=6) | st.sampled_from(["", "a\rb", "\r", "a\r\nb", '"', " a", "x\ud83d"])
RECORDS = st.lists(
    st.fixed_dictionaries(
        {
            "id": FIELDS,
            "label": FIELDS,
            "probability": st.none() | st.floats(0, 1),
            "threshold": st.none() | st.floats(0, 1),
            "error": FIELDS,
            "reasoning": FIELDS,
            "rules": st.lists(st.sampled_from(["R1", "R2", "R10"]), max_size=3),
        }
    ),
    max_size=5,
)


def replaced(value: Any) -> Any:
    """Half a surrogate pair as U+FFFD."""
    return value.replace("\ud83d", "\ufffd") if isinstance(value, str) else value


def as_field(value: Any) -> Any:
    """A value as `read_output` finds it in a CSV."""
    return (
        value
        if isinstance(value, float)
        else replaced(value if isinstance(value, str) else " ".join(value or [])) or None
    )


@given(RECORDS, st.booleans())
def test_every_format_gives_back_what_was_written(records: list[dict[str, Any]], reasoning: bool) -> None:
    names = output_columns(reasoning=reasoning)
    records = [{name: record[name] for name in names} for record in records]
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in FORMATS:
            write_output(Path(folder) / kind, kind, records, reasoning=reasoning)
            found[kind] = read_output(Path(folder) / kind, kind)
    assert found["jsonl"] == records
    assert found["parquet"] == [{k: replaced(v) for k, v in record.items()} for record in records]
    assert found["csv"] == [{k: as_field(v) for k, v in record.items()} for record in records]


@given(st.lists(FIELDS, min_size=2, max_size=4))
def test_a_row_of_a_csv_stays_one_row(fields: list[str | None]) -> None:
    out = io.StringIO(newline="")
    csv_writer(out)(fields)
    out.seek(0)
    assert list(csv.reader(out, strict=True)) == [[replaced(field) or "" for field in fields]]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_is_never_written_as_json(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_line({"probability": value})


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("a.csv", "csv"),
        ("A.CSV", "csv"),
        ("a.b.jsonl", "jsonl"),
        ("s3://b/a.ndjson", "jsonl"),
        ("a.parquet", "parquet"),
        ("a.pq", "parquet"),
    ],
)
def test_the_ending_decides_the_format_unless_one_is_asked_for(url: str, kind: str) -> None:
    assert output_format(url, None) == kind
    assert {output_format(url, each) for each in FORMATS} == set(FORMATS)


@given(st.lists(st.booleans(), max_size=6))
def test_rows_that_cannot_be_asked_pass_between_the_others(opened: Bundle, problems: list[bool]) -> None:
    chunk = [InputRow(f"r{i}", f"text {i}", "t:1: bad" if bad else None) for i, bad in enumerate(problems)]
    sampler = HashedSampler()
    found = jobs.records(chunk, student_of(opened, sampler), reasoning=False, progress=Silent())
    assert [record["id"] for record in found] == [row.id for row in chunk]
    assert [record["error"] for record in found] == [row.problem for row in chunk]
    assert [record["label"] is None for record in found] == problems
    assert (sampler.texts, sampler.batches) == (problems.count(False), int(False in problems))
