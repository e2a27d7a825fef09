"""An index of the stored replies: keys to files and offsets, a few dozen bytes each, and token sums by run.

The index is a SQLite database in a temporary file; the replies themselves stay in their files. A dictionary
of a million keys would take several times the memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.completions.reply import Entry, ReplyUsage, Setup, read_entry
from core.errors import StoreError
from core.store.disk import explained

log = logging.getLogger(__name__)

_BATCH = 20_000
_TABLES = """
    PRAGMA journal_mode = OFF;
    PRAGMA cache_size = -48000;
    CREATE TABLE reply (
        key BLOB PRIMARY KEY, at REAL, piece INTEGER, start INTEGER, setup INTEGER
    ) WITHOUT ROWID;
    CREATE TABLE old_text (id BLOB PRIMARY KEY) WITHOUT ROWID;
"""
_INSERT = """
    INSERT INTO reply VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE
    SET at = excluded.at, piece = excluded.piece, start = excluded.start, setup = excluded.setup
    WHERE (excluded.at, writer_of(excluded.piece), excluded.start)
        < (reply.at, writer_of(reply.piece), reply.start)
"""


@dataclass(frozen=True, slots=True)
class Piece:
    """A local file with what one writer wrote from byte `start` of its log on."""

    writer: str
    start: int
    path: Path


class ReplyIndex:
    """Finds a reply's place by its request's key; safe to use from several threads.

    A line's name is its writer and its offset in the writer's log, so a line that several files contain is
    one line. Of two replies to one request the first in (at, writer, offset) is found.
    """

    def __init__(self) -> None:
        self.variants: frozenset[tuple[int, str]] = frozenset()
        """Token limits and output formats of all requests, except those of version 0.1."""
        self.old_formats: frozenset[str] = frozenset()
        """Output formats of the requests of version 0.1, whose lines do not contain their token limit."""
        self._pieces: list[Piece] = []
        self._read: dict[str, int] = {}
        self._torn: dict[Path, int] = {}
        self._usage: dict[str, ReplyUsage] = defaultdict(ReplyUsage)
        self._setups: dict[Setup, int] = {}
        self._lock = threading.Lock()
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._db.create_function("writer_of", 1, lambda i: self._pieces[i].writer, deterministic=True)
        self._db.executescript(_TABLES)

    def read_until(self, writer: str) -> int:
        """Return how much of a writer's log is in the index, in bytes."""
        return self._read.get(writer, 0)

    def add_file(self, piece: Piece, *, growing: bool = False) -> None:
        """Add what is new in a file. A broken line is logged and left out.

        `growing` means that its writer lives, so that an unfinished last line is normal.
        """
        at = max(piece.start, self.read_until(piece.writer))
        if piece.start > self.read_until(piece.writer):
            log.warning("%s: replies before it are missing and will be requested again", piece.path)
        batch: list[tuple[int, Entry]] = []
        with explained(piece.path, "read"), piece.path.open("rb") as f:
            f.seek(at - piece.start)
            for line in f:
                if not line.endswith(b"\n"):
                    if not growing and self._torn.get(piece.path) != at:  # logged once
                        message = "%s:%d: the last line is torn, as by a crash; its reply was never counted"
                        log.warning(message, piece.path, _line_number(piece, at))
                    break
                try:
                    batch.append((at, read_entry(line)))
                except ValueError as e:
                    if at > 0 or b'"holder"' not in line:  # the first line names the writer
                        message = "%s:%d: no reply can be read there (%s); its request will be sent again"
                        log.warning(message, piece.path, _line_number(piece, at), e)
                at += len(line)
                if len(batch) == _BATCH:
                    self.add(piece, batch, at)
                    batch = []
        self._torn[piece.path] = at
        self.add(piece, batch, at)

    def add(self, piece: Piece, entries: Sequence[tuple[int, Entry]], end: int) -> None:
        """Add lines of a file by their offsets in the log, which has been read until `end`."""
        with self._database():
            if not self._pieces or self._pieces[-1] != piece:
                self._pieces.append(piece)
            number = len(self._pieces) - 1
            rows, texts = [], []
            for start, e in entries:
                if not e.is_answer:
                    continue
                setup = None
                if e.setup is None:
                    self.old_formats |= {e.output_format}
                else:
                    if (variant := (e.setup.max_tokens, e.output_format)) not in self.variants:
                        self.variants |= {variant}
                    setup = self._setups.setdefault(e.setup, len(self._setups))
                rows.append((e.key, e.at, number, start, setup))
                if e.first_of is not None:
                    texts.append((_bytes(e.first_of),))
            rows.sort()  # neighbors in the tree are fast to insert
            self._db.execute("BEGIN")
            self._db.executemany(_INSERT, rows)
            if texts:
                self._db.executemany("INSERT OR IGNORE INTO old_text VALUES (?)", texts)
            self._db.execute("COMMIT")
            for _, e in entries:
                self._usage[e.run].add(e)
            self._read[piece.writer] = max(end, self.read_until(piece.writer))

    def line(self, key: str) -> tuple[bytes, Path] | None:
        """Return the line of the reply to a request, and its file."""
        found = self._select("SELECT piece, start FROM reply WHERE key = ?", bytes.fromhex(key))
        if not found:
            return None
        number, start = found[0]
        piece = self._pieces[number]
        with explained(piece.path, "read"), piece.path.open("rb") as f:
            f.seek(start - piece.start)
            return f.readline(), piece.path

    def has(self, key: str) -> bool:
        return bool(self._select("SELECT 1 FROM reply WHERE key = ?", bytes.fromhex(key)))

    def has_old_text(self, id: str) -> bool:
        """Return whether version 0.1 sent a request about a text."""
        return bool(self._select("SELECT 1 FROM old_text WHERE id = ?", _bytes(id)))

    def keys_of(self, prompt_digest: str, settled_format: str) -> list[str]:
        """Return the keys of all replies to a prompt under a settled format, under any token limit."""
        with self._lock:
            setups = [
                number
                for setup, number in self._setups.items()
                if (setup.prompt_digest, setup.settled_format) == (prompt_digest, settled_format)
            ]
        found = [self._select("SELECT key FROM reply WHERE setup = ? ORDER BY at", each) for each in setups]
        return [key.hex() for rows in found for (key,) in rows]

    def drop(self, key: str) -> None:
        """Forget a reply, so that the next one to its request is found."""
        self._select("DELETE FROM reply WHERE key = ?", bytes.fromhex(key))

    def count(self) -> int:
        return int(self._select("SELECT COUNT(*) FROM reply")[0][0])

    def usage(self, run: str) -> ReplyUsage:
        """Return the sums over a run's replies, including those to requests that another run sent first."""
        with self._lock:
            return dataclasses.replace(self._usage[run]) if run in self._usage else ReplyUsage()

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _select(self, statement: str, *values: object) -> list[Any]:
        with self._database():
            return self._db.execute(statement, values).fetchall()

    @contextlib.contextmanager
    def _database(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except sqlite3.Error as e:
                raise StoreError(
                    f"the temporary index of stored replies failed: {e}; free disk space for temporary "
                    "files, or set SQLITE_TMPDIR, and run the same command again: all replies are kept"
                ) from e


def _bytes(id: str) -> bytes:
    return id.encode("utf-8", "surrogatepass")


def whole_end(path: Path) -> int:
    """Return where the last complete line ends, in bytes."""
    with path.open("rb") as f:
        end = f.seek(0, 2)
        while end > 0:
            start = max(0, end - 65536)
            f.seek(start)
            if (at := f.read(end - start).rfind(b"\n")) >= 0:
                return start + at + 1
            end = start
    return 0


def _line_number(piece: Piece, start: int) -> int:
    with piece.path.open("rb") as f:
        left, number = start - piece.start, 1
        while left > 0 and (data := f.read(min(left, 1 << 20))):
            left -= len(data)
            number += data.count(b"\n")
    return number
