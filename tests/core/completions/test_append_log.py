"""The append-only log: an append returns after fsync, and a failed write is rolled back."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from core.completions.chat import encode_reply
from core.completions.journal import Journal
from core.errors import StoreError
from core.store import Store
from tests.core.completions.replying import append, key_of, reply


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """A journal on a disk, with one reply."""
    journal = Journal.open(Store.open(str(tmp_path)), "a/b ü")
    append(journal, reply(0))
    return journal


def spools(folder: Path) -> list[Path]:
    """The logs under a root."""
    return sorted((folder / "answers").glob("*.jsonl"))


def test_append_returns_only_after_fsync(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    reached, released = threading.Event(), threading.Event()
    fsync = os.fsync

    def slow(fd: int) -> None:
        reached.set()
        assert released.wait(60)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", slow)
    thread = threading.Thread(target=lambda: append(journal, reply(1)))
    thread.start()
    assert reached.wait(60)
    thread.join(0.05)
    assert thread.is_alive()
    assert journal.get(key_of(1)) is None
    journal.refresh()
    assert journal.spent("r").requests == 1, "its own spool is read only as far as it is safe"
    released.set()
    thread.join()
    assert journal.get(key_of(1)) == reply(1)
    journal.close()


def test_partial_write_is_rolled_back(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (spool,) = spools(tmp_path)
    before, write, calls = spool.read_bytes(), os.write, []

    def half(fd: int, data: bytes) -> int:
        calls.append(fd)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, memoryview(data)[:10])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(StoreError, match=r"cannot write .*answers: No space left on device; free disk"):
            append(journal, reply(1))
    assert spool.read_bytes() == before
    append(journal, reply(2))
    journal.close()
    assert spool.read_bytes() == before, "what failed once takes no more"
    (other,) = set(spools(tmp_path)) - {spool}
    assert other.read_bytes().splitlines(keepends=True)[1:] == [encode_reply(reply(2))]


def test_log_is_removed_if_its_first_write_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Journal.open(Store.open(str(tmp_path)), "r") as journal:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(StoreError):
            append(journal, reply(0))
    assert spools(tmp_path) == []


def test_any_run_name_gives_a_valid_file_name(journal: Journal, tmp_path: Path) -> None:
    journal.close()
    assert [p.name.partition("-")[0] for p in spools(tmp_path)] == [str(os.getpid())]
    assert spools(tmp_path)[0].name.endswith("-a%2Fb%20%C3%BC.jsonl")


def test_closed_journal_rejects_appends(journal: Journal) -> None:
    journal.close()
    journal.close()
    with pytest.raises(RuntimeError, match="the journal is closed"):
        append(journal, reply(1))
