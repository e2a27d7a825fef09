"""The journal: every reply of an endpoint, durable before it counts, found by its request in any run.

Each writer appends to its own `answers/<writer>.jsonl`, for a remote root in the user's cache, from where it
is uploaded in parts. Readers see the union of all files; the requests of broken lines are sent again.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import sqlite3
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from core import durable
from core.completions.chat import Reply, ReplyUsage, Setup, decode_reply
from core.completions.reply_log import (
    FOLDER,
    SUFFIX,
    AppendLog,
    GroupCommit,
    Piece,
    Uploader,
    download_parts,
    upload_missing,
    uploaded_parts,
    whole_end,
    writer_state,
)
from core.errors import StoreError
from core.store import Store, explained

log = logging.getLogger(__name__)


class Journal:
    """The replies under one root, for one run. Open it with `open`, and close it.

    Its methods may be called from any thread, but not from a forked process.
    """

    def __init__(self, store: Store, run: str, interval: float) -> None:
        self.store, self.run = store, run
        self.index = ReplyIndex()
        self._folder = log_folder(store)
        self._commit = GroupCommit(self._folder, run, self._index_durable)
        self._uploader = None if store.backend.folder is not None else Uploader(store.backend, interval)

    @classmethod
    def open(
        cls, store: Store, run: str, *, interval: float = 3.0, completes_uploads: bool = True
    ) -> Journal:
        """Open the journal, and index all replies under the root.

        Replies are uploaded every `interval` seconds. `completes_uploads` uploads what dead runs of this
        machine could not. Raises StoreError or PassingError if the root cannot be read.
        """
        journal = cls(store, run, interval)
        try:
            journal.refresh(completes_uploads=completes_uploads)
        except BaseException:
            journal.close()
            raise
        return journal

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Make durable and upload what still waits."""
        self._commit.close()
        if self._uploader is not None:
            self._uploader.close()
        self.index.close()

    async def append(self, reply: Reply) -> None:
        """Return when the reply is durable on this machine and found by `get`.

        Raises StoreError if it could not be written; then nothing is counted. If the caller is canceled,
        the reply is kept all the same: it was paid for.
        """
        await self._commit.write(reply)
        durable.failpoint(durable.ANSWER_APPENDED, reply.key)

    def get(self, key: str) -> Reply | None:
        """Return the first reply to a request, by time, then writer; None if there is none."""
        found = self.index.line(key)
        if found is None:
            return None
        line, path = found
        try:
            reply = decode_reply(line)
        except ValueError:
            reply = None
        if reply is None or reply.key != key:
            log.warning("%s was changed since it was read; request %s is sent again", path, key)
            self.index.drop(key)
            return None
        return reply

    def replies_of(self, prompt_digest: str, settled_format: str) -> Iterator[Reply]:
        """Yield all replies to a prompt under a settled format, whatever the text, run and token limit."""
        yield from filter(None, map(self.get, self.index.keys_of(prompt_digest, settled_format)))

    def count(self) -> int:
        return self.index.count()

    def spent(self, run: str) -> ReplyUsage:
        """Return what a run's own replies used, including those that another run has too."""
        return self.index.usage(run)

    def refresh(self, *, completes_uploads: bool = False) -> None:
        """Index what other writers have added since."""
        backend = self.store.backend
        there = uploaded_parts(backend)
        if backend.folder is not None:
            for part in there:
                self._index_file(Piece(part.writer, part.start, backend.folder / part.path))
            return
        local = sorted(self._folder.glob(f"*{SUFFIX}"))
        ends = defaultdict(int, {path.stem: whole_end(path) for path in local})
        for path in local:
            self._index_file(Piece(path.stem, 0, path))
        wanted = []  # parts that no log here, no part before them and not the index contains
        for part in there:
            if part.end > max(ends[part.writer], self.index.read_until[part.writer]):
                wanted.append(part)
            ends[part.writer] = max(ends[part.writer], part.end)
        for piece in download_parts(backend, wanted, self._folder / "parts"):
            self._index_file(piece)
        if completes_uploads:
            upload_missing(backend, self._folder, there)

    def _index_durable(self, source: AppendLog, replies: Sequence[tuple[int, Reply]]) -> None:
        """Index lines that became durable; called in the journal's thread."""
        self.index.add(Piece(source.writer, 0, source.path), replies, source.end)
        if self._uploader is not None:
            self._uploader.grown(source)

    def _index_file(self, piece: Piece) -> None:
        """Index a file of another journal; this one's own are indexed only as far as they are durable."""
        if piece.writer not in self._commit.writers:
            growing = piece.path.parent == self._folder and writer_state(piece.path) == "growing"
            self.index.add_file(piece, growing=growing)


def log_folder(store: Store) -> Path:
    """Return the folder of the logs that this machine writes for a root."""
    if store.backend.folder is not None:
        return store.backend.folder / FOLDER
    copies = store.copies.folder
    return copies.parent.parent / FOLDER / copies.name


_BATCH = 10_000
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


class ReplyIndex:
    """Finds a reply's place by its request's key, and sums tokens by run; safe to use from several threads.

    A SQLite database in a temporary file: a dictionary of a million keys would take several times the memory.
    A line's name is its writer and its offset in the writer's log, so a line that several files contain is
    one line. Of two replies to one request the first in (at, writer, offset) is found.
    """

    def __init__(self) -> None:
        self.variants: frozenset[tuple[int, str]] = frozenset()
        """Token limits and output formats of all requests, except those of version 0.1."""
        self.old_formats: frozenset[str] = frozenset()
        """Output formats of the requests of version 0.1, whose lines do not contain their token limit."""
        self._pieces: list[Piece] = []
        self.read_until = Counter[str]()
        """How much of each writer's log is in the index, in bytes."""
        self._torn: dict[Path, int] = {}
        self._usage: dict[str, ReplyUsage] = defaultdict(ReplyUsage)
        self._setups: dict[Setup, int] = {}
        self._lock = threading.Lock()
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._db.create_function("writer_of", 1, lambda i: self._pieces[i].writer, deterministic=True)
        self._db.executescript(_TABLES)

    def add_file(self, piece: Piece, *, growing: bool = False) -> None:
        """Add what is new in a file. A broken line is logged and left out.

        `growing` means that its writer lives, so that an unfinished last line is normal.
        """
        at = max(piece.start, self.read_until[piece.writer])
        if piece.start > self.read_until[piece.writer]:
            log.warning("%s: replies before it are missing and will be requested again", piece.path)
        batch: list[tuple[int, Reply]] = []
        with explained(piece.path, "read"), piece.path.open("rb") as f:
            f.seek(at - piece.start)
            for line in f:
                if not line.endswith(b"\n"):
                    if not growing and self._torn.get(piece.path) != at:  # logged once
                        message = "%s:%d: the last line is torn, as by a crash; its reply was never counted"
                        log.warning(message, piece.path, _line_number(piece, at))
                    break
                try:
                    reply = decode_reply(line)
                    # The index needs no texts, of which a batch can have hundreds of megabytes.
                    batch.append((at, reply._replace(raw_output="", reasoning_content=None)))
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

    def add(self, piece: Piece, replies: Sequence[tuple[int, Reply]], end: int) -> None:
        """Add replies of a file by their offsets in the log, which has been read until `end`."""
        with self._database():
            if not self._pieces or self._pieces[-1] != piece:
                self._pieces.append(piece)
            number = len(self._pieces) - 1
            rows, texts = [], []
            for start, reply in replies:
                if not reply.is_answer:
                    continue
                setup = None
                if (named := reply.setup) is None:
                    self.old_formats |= {reply.output_format}
                    if reply.attempt == 0:
                        texts.append((_bytes(str(reply.example_id)),))
                else:
                    if (variant := (named.max_tokens, reply.output_format)) not in self.variants:
                        self.variants |= {variant}
                    setup = self._setups.setdefault(named, len(self._setups))
                at = dt.datetime.fromisoformat(reply.at).timestamp()
                rows.append((bytes.fromhex(reply.key), at, number, start, setup))
            rows.sort()  # neighbors in the tree are fast to insert
            self._db.execute("BEGIN")
            self._db.executemany(_INSERT, rows)
            self._db.executemany("INSERT OR IGNORE INTO old_text VALUES (?)", texts)
            self._db.execute("COMMIT")
            for _, reply in replies:  # after all that can fail, so that no reply is counted twice
                self._usage[reply.run].add(reply)
            self.read_until[piece.writer] = max(end, self.read_until[piece.writer])

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
            return replace(self._usage[run]) if run in self._usage else ReplyUsage()

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


def _line_number(piece: Piece, start: int) -> int:
    with piece.path.open("rb") as f:
        left, number = start - piece.start, 1
        while left > 0 and (data := f.read(min(left, 1 << 20))):
            left -= len(data)
            number += data.count(b"\n")
    return number
