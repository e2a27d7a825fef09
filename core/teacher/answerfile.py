"""A file of recorded answers: JSON lines, checked line by line, kept on disk and found by id.

A million answers need no more memory than four hundred: they wait in a database that SQLite
keeps in a temporary file of its own and removes when it is closed.
"""

from __future__ import annotations

import gzip
import hashlib
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import IO

import fsspec

from core.data import sources
from core.data.hashing import text_id
from core.errors import AnswersError, PassingError
from core.records import Example
from core.teacher.answerline import UNNAMED, Recorded, read_line
from core.teacher.answersource import source_of

_CHUNK = 1 << 20


class AnswerFile:
    """The answers of one file, by id. Open it with `open_answers`, and close it."""

    def __init__(self, place: str, model: str = UNNAMED) -> None:
        """`model` answered where a line names none."""
        self.place, self._model = place, model
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute(
            "CREATE TABLE answer (id TEXT, sample INTEGER, line INTEGER, body TEXT,"
            " PRIMARY KEY (id, sample)) WITHOUT ROWID"
        )

    def of(self, example: Example) -> list[Recorded]:
        """All answers to one text, in the order of their samples: by its id, else by the text itself."""
        return self._of(example.id) or self._of(text_id(example.text))

    def _of(self, key: str) -> list[Recorded]:
        rows = self._db.execute(
            "SELECT body, line, sample FROM answer WHERE id = ? ORDER BY sample", (key,)
        ).fetchall()
        found = [
            (read_line(body, f"{self.place}:{line}", self._model), sample) for body, line, sample in rows
        ]
        return [row if row.sample == sample else replace(row, sample=sample) for row, sample in found]

    def count(self) -> tuple[int, int]:
        """How many answers there are, and to how many texts."""
        row = self._db.execute("SELECT COUNT(*), COUNT(DISTINCT id) FROM answer").fetchone()
        return int(row[0]), int(row[1])

    def first(self) -> Recorded | None:
        """The file's first answer, to show how its texts are named; None where there is none."""
        row = self._db.execute("SELECT body, line FROM answer ORDER BY line LIMIT 1").fetchone()
        return read_line(row[0], f"{self.place}:{row[1]}") if row else None

    def close(self) -> None:
        self._db.close()

    def fill(self, lines: Iterator[bytes]) -> None:
        """Take in the file's lines. Raises AnswersError at the first that is broken or repeated."""
        self._db.execute("BEGIN")
        for number, raw in enumerate(lines, start=1):
            text = _decoded(raw, f"{self.place}:{number}")
            if not text.strip():
                continue
            row = read_line(text, f"{self.place}:{number}")
            sample = row.sample if row.text is None else self._free(row)
            try:
                self._db.execute("INSERT INTO answer VALUES (?, ?, ?, ?)", (row.id, sample, number, text))
            except sqlite3.IntegrityError:
                raise AnswersError(self._twice(row, number)) from None
            except (sqlite3.OperationalError, sqlite3.DatabaseError) as e:
                raise OSError(f"the temporary database for {self.place} failed: {e}") from e
        self._db.execute("COMMIT")

    def _free(self, row: Recorded) -> int:
        """The sample of a run's line: a text that stood twice in its data was asked about twice."""
        there = "SELECT MAX(sample), SUM(sample = ?) FROM answer WHERE id = ?"
        last, taken = self._db.execute(there, (row.sample, row.id)).fetchone()
        return int(last) + 1 if taken else row.sample

    def _twice(self, row: Recorded, number: int) -> str:
        first = self._db.execute(
            "SELECT line FROM answer WHERE id = ? AND sample = ?", (row.id, row.sample)
        ).fetchone()[0]
        return (
            f"{self.place}:{number}: a second answer to id {row.id!r}, sample {row.sample}; the first "
            f"stands on line {first}; remove one or number them with sample"
        )


@contextmanager
def open_answers(url: str) -> Iterator[AnswerFile]:
    """Read the whole file, or that of a run's folder, unpacked where its name ends in .gz.

    Raises AnswersError with file and line for anything that is no answer, and where the file is
    missing or empty.
    """
    source = source_of(url)
    file = AnswerFile(sources.place(source.url), source.model)
    try:
        with _open(source.url) as f:
            file.fill(_lines(f, source.url))
        if file.first() is None:
            raise AnswersError(f"{file.place} holds no answers; name another file in teacher.answers")
        yield file
    finally:
        file.close()


def answers_digest(url: str) -> str:
    """sha256 of the file's bytes as they lie there, in hex; of a run's folder with who answered."""
    source, found = source_of(url), hashlib.sha256()
    with _open(source.url) as f:
        while chunk := f.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest() if source.model == UNNAMED else f"{found.hexdigest()}, {source.model}"


def _open(url: str) -> IO[bytes]:
    where = str(sources.local_path(url)) if sources.is_local(url) else url
    try:
        file: IO[bytes] = fsspec.open(where, "rb").open()
    except FileNotFoundError:
        raise AnswersError(f"{sources.missing(url)}; set teacher.answers") from None
    except PermissionError:
        raise AnswersError(f"{sources.place(url)} may not be read; mend its permissions") from None
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


def _decoded(raw: bytes, at: str) -> str:
    try:
        return raw.rstrip(b"\r\n").decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as e:
        raise AnswersError(f"{at}: byte {e.start} of the line is not UTF-8; save it as UTF-8") from None
