"""A file of recorded answers: JSON lines, checked line by line, kept on disk and found by id.

The lines are stored in a temporary SQLite database, so that memory does not grow with their number.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from core.data import sources
from core.errors import AnswersError, DataError
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
                    read_line(body, f"{self.place}:{line}", self._model).model_copy(update={"sample": sample})
                    for body, line, sample in rows
                ]
        return []

    def count(self) -> tuple[int, int]:
        """Return how many answers there are, and to how many texts."""
        row = self._db.execute("SELECT COUNT(*), COUNT(DISTINCT id) FROM answer").fetchone()
        return int(row[0]), int(row[1])

    def first(self) -> Recorded:
        """Return the first answer, which shows how the texts are named. Raises AnswersError without any."""
        row = self._db.execute("SELECT body, line FROM answer ORDER BY line LIMIT 1").fetchone()
        if row is None:
            raise AnswersError(f"{self.place} contains no answers; name another file in teacher.answers")
        return read_line(row[0], f"{self.place}:{row[1]}")

    def close(self) -> None:
        self._db.close()

    def fill(self, lines: Iterable[bytes]) -> None:
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
        with _explained(), sources.opened(found) as lines:
            file.fill(lines)
        file.first()
        yield file
    finally:
        file.close()


def answers_digest(url: str) -> str:
    """Return the sha256 of the file's bytes, in hex; for a run's folder with the model that answered."""
    source, model = source_of(url)
    with _explained():
        found = sources.digest(source)
    return found if model == UNNAMED else f"{found}, {model}"


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except DataError as e:
        raise AnswersError(f"{e}; set teacher.answers") from e


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


_SAMPLE_OF_ID = re.compile(r"_k(\d+)$")
_THOUGHT = re.compile(r"\s*<think>(.*)</think>\s*", re.DOTALL | re.IGNORECASE)


def _cleaned(value: object) -> object:
    return clean(value) if isinstance(value, str) else value


def _id(value: object) -> str:
    name = str(value).strip() if isinstance(value, str) or type(value) is int else ""
    if not name:
        raise ValueError("not an id")
    return clean(name)


Text = Annotated[str, BeforeValidator(_cleaned)]


class Recorded(BaseModel):
    """One line of the file: the answer of a model to a text. Without `raw_output`, only the fields `label`
    and `reasoning` were recorded. `text` is that of a line without an id, whose `id` is derived from it.
    """

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)

    id: Annotated[str, BeforeValidator(_id)]
    temperature: float | None = None
    sample: int = Field(0, ge=0, lt=2**31)
    model: Text
    raw_output: Text | None = None
    label: Any = None
    reasoning: Any = None
    finish_reason: Text | None = None
    reasoning_content: Annotated[Text | None, BeforeValidator(lambda v: v if type(v) is str else None)] = None
    hinted: Annotated[bool, BeforeValidator(lambda v: v is True)] = False
    text: Text | None = None

    @property
    def has_fields(self) -> bool:
        """Whether label and reasoning were recorded, whatever their values."""
        return self.model_fields_set >= {"label", "reasoning"}


_WANTED = {
    "id": "the text's id, as text or a whole number",
    "temperature": "a number",
    "sample": "a whole number from 0 on",
}
"""What messages ask for in place of a wrong value; a text for other fields."""


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
    text = row.pop("text", None)
    if "id" not in row and isinstance(text, str) and text.strip():
        row = {**_of_run(row, text), "text": text}
    if row.get("id") is None:
        raise AnswersError(f"{at}: neither id nor text; give the text's id, or the text itself")
    try:
        own = row.get("model")
        found = Recorded.model_validate({**row, "model": model if own in (None, "") else own})
    except ValidationError as e:
        name = str(e.errors()[0]["loc"][0])
        shown, wanted = json.dumps(row[name])[:40], _WANTED.get(name, "a text")
        raise AnswersError(f"{at}: {name} is {shown}; give {wanted}") from None
    if found.raw_output is None and not found.has_fields:
        raise AnswersError(f"{at}: neither raw_output nor reasoning and label; give one of the two")
    return found


def _of_run(row: dict[str, Any], text: str) -> dict[str, Any]:
    """Translate a run's line, whose reasoning may be in its tags, to the fields of a line with an id."""
    match = _SAMPLE_OF_ID.search(str(row.get("sample_id")))
    sample = row.get("k_index", int(match[1]) if match else 0)
    fields: dict[str, Any] = {"id": text_id(clean(text)), "sample": sample}
    if "label" not in row and "pred_label" in row:
        fields["label"] = row["pred_label"]
    if isinstance(row.get("reasoning"), str) and (thought := _THOUGHT.fullmatch(row["reasoning"])):
        fields["reasoning"] = thought[1].strip()
    return {**row, **fields}
