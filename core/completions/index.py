"""An index of the stored replies: keys to files and offsets, a few dozen bytes each, and token sums by run.

The index is a SQLite database in a temporary file; the replies themselves stay in their files. A dictionary
of a million keys would take several times the memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.completions import reply as replies
from core.completions.reply import Entry, Setup, Tally, Usage
from core.errors import StoreError
from core.store.disk import explained

log = logging.getLogger(__name__)

_BATCH = 20_000
_CACHE_KB = 48_000
_INSERT = """
    INSERT INTO reply VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE
    SET at = excluded.at, piece = excluded.piece, start = excluded.start,
        setup = excluded.setup, first_of = excluded.first_of
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

    A line's name is its writer and its offset in the writer's log, so a line that several files
    hold is one line. Of two replies to one request the first in (at, writer, offset) is found.
    """

    def __init__(self) -> None:
        self.broken = 0
        self._pieces: list[Piece] = []
        self._read: dict[str, int] = {}
        self._torn: dict[Path, int] = {}
        self._tallies: dict[str, Tally] = defaultdict(Tally)
        self._setups: dict[Setup, int] = {}
        self.variants: frozenset[tuple[int, str]] = frozenset()
        """Token limits and output formats of all requests, those of version 0.1 aside."""
        self.old_formats: frozenset[str] = frozenset()
        """Output formats of the requests of version 0.1, whose lines do not state their token limit."""
        self._lock = threading.Lock()
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._db.create_function("writer_of", 1, lambda i: self._pieces[i].writer, deterministic=True)
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute(f"PRAGMA cache_size = -{_CACHE_KB}")
        self._db.execute(
            "CREATE TABLE reply (key BLOB PRIMARY KEY, at REAL, piece INTEGER, start INTEGER, setup INTEGER, "
            "first_of INTEGER) WITHOUT ROWID"
        )

    def read_until(self, writer: str) -> int:
        """How much of a writer's log is in the index, in bytes."""
        return self._read.get(writer, 0)

    def take(self, piece: Piece, *, growing: bool = False) -> None:
        """Take in what is new in a file. A line that is broken is named in the log and left out.

        `growing` says that its writer lives, so that an unfinished last line is normal.
        """
        at = max(piece.start, self.read_until(piece.writer))
        if piece.start > self.read_until(piece.writer):
            log.warning("%s: replies before it are missing and will be asked for again", piece.path)
        batch: list[tuple[int, Entry]] = []
        growing = growing or self._torn.get(piece.path) == at  # reported already
        with explained(piece.path, "read"):
            for start, line in _whole_lines(piece, at, growing=growing):
                at = start + len(line)
                if (found := self._entry(piece, start, line)) is not None:
                    batch.append((start, found))
                if len(batch) == _BATCH:
                    self.add(piece, batch, at)
                    batch = []
        self._torn[piece.path] = at
        self.add(piece, batch, at)

    def add(self, piece: Piece, entries: Sequence[tuple[int, Entry]], end: int) -> None:
        """Take in lines of a file by their offsets in the log, which has been read until `end`."""
        with self._lock:
            if not self._pieces or self._pieces[-1] != piece:
                self._pieces.append(piece)
            number = len(self._pieces) - 1
            # Neighbours in the tree come together.
            answers = ((start, e) for start, e in entries if e.is_answer)
            rows = sorted((e.key, e.at, number, start, *self._origin(e)) for start, e in answers)
            with _database():
                self._db.execute("BEGIN")
                self._db.executemany(_INSERT, rows)
                self._db.execute("COMMIT")
            for _, e in entries:
                self._tallies[e.run].count(e)
            self._read[piece.writer] = max(end, self.read_until(piece.writer))

    def line(self, key: str) -> tuple[bytes, str] | None:
        """Return the line of the reply to a request, and its file."""
        with self._lock, _database():
            found = self._db.execute(
                "SELECT piece, start FROM reply WHERE key = ?", (bytes.fromhex(key),)
            ).fetchone()
        if found is None:
            return None
        piece = self._pieces[found[0]]
        with explained(piece.path, "read"), piece.path.open("rb") as f:
            f.seek(found[1] - piece.start)
            return f.readline(), str(piece.path)

    def _origin(self, entry: Entry) -> tuple[int | None, int | None]:
        """The setup's number; for a line of version 0.1, a number for the text's id instead."""
        if entry.setup is None:
            if entry.output_format not in self.old_formats:
                self.old_formats |= {entry.output_format}
            return None, None if entry.first_of is None else _number_of(entry.first_of)
        if (variant := (entry.setup.max_tokens, entry.output_format)) not in self.variants:
            self.variants |= {variant}
        return self._setups.setdefault(entry.setup, len(self._setups)), None

    def has(self, key: str) -> bool:
        """Whether there is a reply to a request."""
        with self._lock, _database():
            found = self._db.execute("SELECT 1 FROM reply WHERE key = ?", (bytes.fromhex(key),))
            return found.fetchone() is not None

    def old_texts(self) -> OldTexts:
        """The texts that version 0.1 asked about."""
        with self._lock, _database():
            found = self._db.execute("SELECT first_of FROM reply WHERE first_of IS NOT NULL")
            return OldTexts(frozenset(number for (number,) in found))

    def setups(self) -> list[Setup]:
        """The setups of all requests, those of version 0.1 aside."""
        with self._lock:
            return list(self._setups)

    def keys_of(self, setup: Setup) -> list[str]:
        """The keys of all replies under a setup."""
        with self._lock, _database():
            if (number := self._setups.get(setup)) is None:
                return []
            found = self._db.execute("SELECT key FROM reply WHERE setup = ? ORDER BY at", (number,))
            return [key.hex() for (key,) in found]

    def drop(self, key: str) -> None:
        """Forget a reply, so that the next to its request is found."""
        with self._lock, _database():
            self._db.execute("DELETE FROM reply WHERE key = ?", (bytes.fromhex(key),))

    def count(self) -> int:
        """How many requests have a reply."""
        with self._lock, _database():
            return int(self._db.execute("SELECT COUNT(*) FROM reply").fetchone()[0])

    def usage(self, run: str) -> Usage:
        """What a run used; a reply that another run's has made needless was paid for all the same."""
        with self._lock:
            return self._tallies[run].usage() if run in self._tallies else Usage()

    def totals(self) -> Usage:
        """What all runs used."""
        with self._lock:
            return replies.total(self._tallies.values())

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _entry(self, piece: Piece, start: int, line: bytes) -> Entry | None:
        try:
            return replies.entry(line)
        except ValueError as e:
            if start == 0 and b'"holder"' in line:
                return None
            self.broken += 1
            log.warning(
                "%s:%d: no reply can be read there (%s); what it answered will be asked again",
                piece.path,
                _line_number(piece, start),
                e,
            )
            return None


class OldTexts:
    """Ids of texts, by a number of 63 bits each, so that a million take little memory."""

    def __init__(self, numbers: frozenset[int]) -> None:
        self._numbers = numbers

    def __contains__(self, id: str) -> bool:
        return _number_of(id) in self._numbers


def _number_of(id: str) -> int:
    digest = hashlib.blake2b(id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def whole_end(path: Path) -> int:
    """Where the last line that has an end ends, in bytes."""
    with path.open("rb") as f:
        end = f.seek(0, 2)
        while end > 0:
            start = max(0, end - 65536)
            f.seek(start)
            if (at := f.read(end - start).rfind(b"\n")) >= 0:
                return start + at + 1
            end = start
    return 0


def _whole_lines(piece: Piece, at: int, *, growing: bool) -> Iterator[tuple[int, bytes]]:
    """Lines from offset `at` of the log on, with their offsets; a torn last one is left out."""
    with piece.path.open("rb") as f:
        f.seek(at - piece.start)
        for line in f:
            if not line.endswith(b"\n"):
                if not growing:
                    log.warning(
                        "%s:%d: the last line is torn, as by a crash; what it answered was never counted",
                        piece.path,
                        _line_number(piece, at),
                    )
                return
            yield at, line
            at += len(line)


def _line_number(piece: Piece, start: int) -> int:
    with piece.path.open("rb") as f:
        left, number = start - piece.start, 1
        while left > 0 and (data := f.read(min(left, 1 << 20))):
            left -= len(data)
            number += data.count(b"\n")
    return number


@contextlib.contextmanager
def _database() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as e:
        raise StoreError(
            f"the temporary index of the teacher's answers failed: {e}; make room where temporary files "
            "go, or set SQLITE_TMPDIR, and run the same command again: what is answered is kept"
        ) from e
