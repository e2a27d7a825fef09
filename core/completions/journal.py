"""The journal: every reply of an endpoint, durable before it counts, found by its request in any run.

Each writer appends to a file of its own, `answers/<writer>.jsonl` under a root that is a folder. Under a
remote root the file is in the user's cache, and its parts are uploaded every few seconds: kill -9 loses
nothing that was appended, and losing the machine loses the last seconds. Readers see the union of all files.

A last line that a crash cut off is skipped and logged. So is a broken line in the middle of a file: its
request is sent again, where refusing the file would stop every run under the root.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from core import failpoints
from core.completions import append_log
from core.completions.append_log import SUFFIX, AppendLog, GroupCommit
from core.completions.index import Piece, ReplyIndex, whole_end
from core.completions.reply import Entry, Reply, ReplyUsage, encode, from_line
from core.completions.uploads import FOLDER, Uploader, download, parts, upload_missing
from core.store.objects import Store

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

        Raises StoreError if it could not be written; then nothing is counted. If the caller is cancelled,
        the reply is kept all the same: it was paid for.
        """
        await self._commit.write(*encode(reply))
        failpoints.hit(failpoints.ANSWER_APPENDED, reply.key)

    def get(self, key: str) -> Reply | None:
        """Return the first reply to a request, by time, then writer; None if there is none."""
        found = self.index.line(key)
        if found is None:
            return None
        line, path = found
        try:
            reply = from_line(line)
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
        there = parts(backend)
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
            if part.end > max(ends[part.writer], self.index.read_until(part.writer)):
                wanted.append(part)
            ends[part.writer] = max(ends[part.writer], part.end)
        for piece in download(backend, wanted, self._folder / "parts"):
            self._index_file(piece)
        if completes_uploads:
            upload_missing(backend, self._folder, there)

    def _index_durable(self, source: AppendLog, entries: Sequence[tuple[int, Entry]]) -> None:
        """Index lines that became durable; called in the journal's thread."""
        self.index.add(Piece(source.writer, 0, source.path), entries, source.end)
        if self._uploader is not None:
            self._uploader.grown(source)

    def _index_file(self, piece: Piece) -> None:
        """Index a file of another journal; this one's own are indexed only as far as they are durable."""
        if piece.writer not in self._commit.writers:
            growing = piece.path.parent == self._folder and append_log.state(piece.path) == "growing"
            self.index.add_file(piece, growing=growing)


def log_folder(store: Store) -> Path:
    """Return the folder of the logs that this machine writes for a root."""
    if store.backend.folder is not None:
        return store.backend.folder / FOLDER
    copies = store.copies.folder
    return copies.parent.parent / FOLDER / copies.name
