"""A file of recorded answers: JSON lines, checked line by line, kept on disk and found by id.

The lines are stored in a temporary SQLite database, so that memory does not grow with their number.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import re
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import IO, Any

import fsspec

from core.data import sources
from core.errors import AnswersError, DataError, PassingError
from core.records import Example, text_id
from core.teacher.parsing import clean

UNNAMED = "unnamed"
"""The model of answers that name none."""
_PHASE = "teacher_phase"
_FILES = ("teacher_samples.jsonl", "accepted_samples.jsonl")
"""All answers, or, if a run took them over from another, those that were accepted."""
_SUMMARY = "teacher_summary.json"


class AnswerFile:
    """The answers of one file, by id. Open it with `open_answers`, and close it."""

    def __init__(self, place: str, model: str = UNNAMED) -> None:
        """`model` answered if a line names none."""
        self.place, self._model = place, model
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.executescript(
            "PRAGMA journal_mode = OFF;"
            "CREATE TABLE answer (id TEXT, sample INTEGER, line INTEGER, body TEXT,"
            " PRIMARY KEY (id, sample)) WITHOUT ROWID"
        )

    def of(self, example: Example) -> list[Recorded]:
        """Return all answers to one text, in the order of their samples: by its id, else by the text."""
        for key in (example.id, text_id(example.text)):
            rows = self._db.execute(
                "SELECT body, line, sample FROM answer WHERE id = ? ORDER BY sample", (key,)
            ).fetchall()
            if rows:
                return [
                    replace(read_line(body, f"{self.place}:{line}", self._model), sample=sample)
                    for body, line, sample in rows
                ]
        return []

    def count(self) -> tuple[int, int]:
        """Return how many answers there are, and to how many texts."""
        row = self._db.execute("SELECT COUNT(*), COUNT(DISTINCT id) FROM answer").fetchone()
        return int(row[0]), int(row[1])

    def first(self) -> Recorded | None:
        """Return the file's first answer, which shows how its texts are named; None without any."""
        row = self._db.execute("SELECT body, line FROM answer ORDER BY line LIMIT 1").fetchone()
        return read_line(row[0], f"{self.place}:{row[1]}") if row else None

    def close(self) -> None:
        self._db.close()

    def fill(self, lines: Iterator[bytes]) -> None:
        """Add the file's lines. Raises AnswersError at the first that is broken or repeated."""
        self._db.execute("BEGIN")
        for number, raw in enumerate(lines, start=1):
            at = f"{self.place}:{number}"
            try:
                text = raw.rstrip(b"\r\n").decode("utf-8").removeprefix("\ufeff")
            except UnicodeDecodeError as e:
                message = f"{at}: byte {e.start} of the line is not UTF-8; save it as UTF-8"
                raise AnswersError(message) from None
            if not text.strip():
                continue
            row = read_line(text, at)
            sample = row.sample
            if row.text is not None:  # a text that occurs twice in a run's data was sampled twice
                query = "SELECT MAX(sample), SUM(sample = ?) FROM answer WHERE id = ?"
                last, taken = self._db.execute(query, (sample, row.id)).fetchone()
                sample = int(last) + 1 if taken else sample
            try:
                self._db.execute("INSERT INTO answer VALUES (?, ?, ?, ?)", (row.id, sample, number, text))
            except sqlite3.IntegrityError:
                query = "SELECT line FROM answer WHERE id = ? AND sample = ?"
                first = self._db.execute(query, (row.id, sample)).fetchone()[0]
                raise AnswersError(
                    f"{at}: a second answer to id {row.id!r}, sample {sample}; the first "
                    f"is on line {first}; remove one or number them with sample"
                ) from None
            except sqlite3.DatabaseError as e:
                raise OSError(f"the temporary database for {self.place} failed: {e}") from e
        self._db.execute("COMMIT")


@contextmanager
def open_answers(url: str) -> Iterator[AnswerFile]:
    """Read the whole file, or that of a run's folder, decompressed if its name ends in .gz.

    Raises AnswersError with file and line for anything that is not an answer, and if the file is
    missing or empty.
    """
    found, model = source_of(url)
    file = AnswerFile(sources.place(found), model)
    try:
        with _open(found) as f:
            file.fill(_lines(f, found))
        if file.first() is None:
            raise AnswersError(f"{file.place} contains no answers; name another file in teacher.answers")
        yield file
    finally:
        file.close()


def answers_digest(url: str) -> str:
    """Return the sha256 of the file's bytes, in hex; for a run's folder with the model that answered."""
    (source, model), found = source_of(url), hashlib.sha256()
    with _open(source) as f:
        while chunk := f.read(1 << 20):
            found.update(chunk)
    return found.hexdigest() if model == UNNAMED else f"{found.hexdigest()}, {model}"


def source_of(url: str) -> tuple[str, str]:
    """Return the file that a config's `answers` means, and the model of answers that name none.

    Raises AnswersError for a folder without such a file.
    """
    if not sources.is_folder(url):
        return url, UNNAMED
    for folder in (sources.join(url, _PHASE), url):
        for name in _FILES:
            if sources.exists(found := sources.join(folder, name)):
                return found, _summarized_model(sources.join(folder, _SUMMARY))
    wanted = " or ".join(f"{_PHASE}/{name}" for name in _FILES)
    raise AnswersError(
        f"{sources.place(url)} is a folder without {wanted}: name a run's folder, or a file of answers, in "
        "teacher.answers"
    )


def _summarized_model(url: str) -> str:
    """The model in the run's summary; the predecessor's answers do not name it."""
    try:
        model = json.loads(sources.read_bytes(url))["teacher_model"]
    except (DataError, ValueError, KeyError, TypeError):
        return UNNAMED
    return clean(model.strip()) if isinstance(model, str) and model.strip() else UNNAMED


def _open(url: str) -> IO[bytes]:
    where = str(sources.local_path(url)) if sources.is_local(url) else url
    try:
        file: IO[bytes] = fsspec.open(where, "rb").open()
    except FileNotFoundError:
        raise AnswersError(f"{sources.missing(url)}; set teacher.answers") from None
    except PermissionError:
        raise AnswersError(f"{sources.place(url)} may not be read; fix its permissions") from None
    except (ConnectionError, TimeoutError) as e:
        raise PassingError(f"{url} could not be reached: {e}") from e
    except (ValueError, ImportError) as e:
        raise AnswersError(f"{url} cannot be opened: {e}") from e
    return file


def _lines(f: IO[bytes], url: str) -> Iterator[bytes]:
    if not url.lower().endswith(".gz"):
        yield from f
        return
    try:
        yield from gzip.GzipFile(fileobj=f)
    except (gzip.BadGzipFile, EOFError, zlib.error) as e:
        raise AnswersError(f"{sources.place(url)} is not a whole gzip file ({e}); get it again") from None


_SAMPLE_OF_ID = re.compile(r"_k(\d+)$")
_THOUGHT = re.compile(r"\s*<think>(.*)</think>\s*", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Recorded:
    """One line of the file: the answer of a model to a text. `raw_output` None: only the fields `label` and
    `reasoning` were recorded. `text` is that of a line without an id, whose `id` is then derived from it.
    """

    id: str
    sample: int
    model: str
    raw_output: str | None
    label: object
    reasoning: object
    has_fields: bool
    finish_reason: str | None
    reasoning_content: str | None
    temperature: float | None
    hinted: bool
    text: str | None = None


def read_line(line: str, at: str, model: str = UNNAMED) -> Recorded:
    """Read the line `at` file:line; `model` answered if it names none.

    Raises AnswersError with place, reason and remedy.
    """
    try:
        row = json.loads(line)
    except json.JSONDecodeError as e:
        raise AnswersError(f"{at}: not JSON ({e.msg} at column {e.colno}); fix or remove the line") from None
    except (ValueError, RecursionError) as e:
        raise AnswersError(f"{at}: not JSON ({e}); fix or remove the line") from None
    if not isinstance(row, dict):
        raise AnswersError(
            f"{at}: not a JSON object; a line contains id and raw_output, or reasoning and label"
        )
    text = row.get("text")
    if "id" not in row and isinstance(text, str) and text.strip():
        row = _of_run(row, text)
    else:
        text = None
    id, temperature, thought = row.get("id"), row.get("temperature"), row.get("reasoning_content")
    if id is None:
        raise AnswersError(f"{at}: neither id nor text; give the text's id, or the text itself")
    is_id = bool(id.strip()) if isinstance(id, str) else type(id) is int
    _require(is_id, id, "id", at, "the text's id, as text or a whole number")
    if temperature is not None:
        is_finite = type(temperature) in (int, float) and math.isfinite(temperature)
        _require(is_finite, temperature, "temperature", at, "a number")
        temperature = float(temperature)
    sample = row.get("sample", 0)
    is_index = type(sample) is int and 0 <= sample < 2**31
    _require(is_index, sample, "sample", at, "a whole number from 0 on")
    model, raw_output = _text(row, "model", at) or model, _text(row, "raw_output", at)
    has_fields = "label" in row and "reasoning" in row
    if not has_fields and not isinstance(row.get("raw_output"), str):
        raise AnswersError(f"{at}: neither raw_output nor reasoning and label; give one of the two")
    return Recorded(
        id=clean(str(id).strip()),
        sample=sample,
        model=model,
        raw_output=raw_output,
        label=row.get("label"),
        reasoning=row.get("reasoning"),
        has_fields=has_fields,
        finish_reason=_text(row, "finish_reason", at),
        reasoning_content=clean(thought) if isinstance(thought, str) else None,
        temperature=temperature,
        hinted=row.get("hinted") is True,
        text=text,
    )


def _of_run(row: dict[str, Any], text: str) -> dict[str, Any]:
    """Translate a line of a run's file to the field names of a line with an id.

    The predecessor's later version kept the reasoning inside the tags it was written in.
    """
    match = _SAMPLE_OF_ID.search(str(row.get("sample_id")))
    sample = row.get("k_index", int(match[1]) if match else 0)
    fields: dict[str, Any] = {"id": text_id(clean(text)), "sample": sample}
    if "label" not in row and "pred_label" in row:
        fields["label"] = row["pred_label"]
    if isinstance(row.get("reasoning"), str) and (thought := _THOUGHT.fullmatch(row["reasoning"])):
        fields["reasoning"] = thought[1].strip()
    return {**row, **fields}


def _text(row: dict[str, Any], key: str, at: str) -> str | None:
    value = row.get(key)
    if value is None or value == "":
        return value
    _require(isinstance(value, str), value, key, at, "a text")
    return clean(value)


def _require(fits: bool, value: Any, key: str, at: str, wanted: str) -> None:
    if not fits:
        raise AnswersError(f"{at}: {key} is {json.dumps(value)[:40]}; give {wanted}")
