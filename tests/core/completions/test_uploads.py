"""The journal under a remote root: parts are uploaded and downloaded, and missing ones repaired."""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path

import pytest

from core.completions import reply_log
from core.completions.journal import Journal, log_folder
from core.completions.reply_log import LONE_S, uploaded_parts
from core.errors import PassingError
from core.store import Store
from core.store.s3 import S3
from tests.core.completions.replying import append, key_of, killed_while_appending, reply


@pytest.fixture
def remote(s3_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store at a remote URL."""
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "cache"))
    return Store.open(s3_root)


@pytest.fixture
def elsewhere(remote: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    """The same root as another machine sees it."""
    with monkeypatch.context() as patch:
        patch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "another-cache"))
        return Store.open(remote.backend.url)


def counted(store: Store, names: range) -> int:
    """The number of requests that another run finds answered, each reply counted once."""
    with Journal.open(store, "reader") as journal:
        found = [journal.get(key_of(n)) for n in names]
        assert all(r in (None, reply(n)) for n, r in zip(names, found, strict=True))
        number = sum(r is not None for r in found)
        assert journal.spent("r").requests == journal.count() == number
    return number


def appended(store: Store, *groups: range) -> None:
    """Append in one journal; every group is a part of its own."""
    with Journal.open(store, "r", interval=0.01) as journal:
        for group in groups:
            before = len(uploaded_parts(store.backend))
            for n in group:
                append(journal, reply(n))
            until = time.monotonic() + 30
            while len(uploaded_parts(store.backend)) == before and time.monotonic() < until:
                time.sleep(0.01)


def test_uploads_are_found_by_another_machine(remote: Store, elsewhere: Store) -> None:
    with Journal.open(remote, "r", interval=0.05) as journal:
        append(journal, reply(0))
        until = time.monotonic() + 30
        while not uploaded_parts(remote.backend) and time.monotonic() < until:
            time.sleep(0.02)
        assert counted(elsewhere, range(1)) == 1


def test_closing_uploads_the_rest(remote: Store, elsewhere: Store) -> None:
    with Journal.open(remote, "r", interval=3600) as journal:
        for n in range(20):
            append(journal, reply(n))
        assert uploaded_parts(remote.backend) == []
    assert counted(elsewhere, range(20)) == 20


def test_next_run_uploads_what_a_killed_run_could_not(remote: Store, elsewhere: Store) -> None:
    keys = killed_while_appending(remote.backend.url, "killed", 3600)
    assert uploaded_parts(remote.backend) == []
    with Journal.open(elsewhere, "far") as far:
        assert far.count() == 0
    with Journal.open(remote, "near") as near:
        assert [k for k in keys if near.get(k) is None] == []
    with Journal.open(elsewhere, "far") as far:
        assert [k for k in keys if far.get(k) is None] == []
        assert far.spent("killed").requests == far.count()


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_lost_part_is_uploaded_again_from_the_log(remote: Store, elsewhere: Store, lost: int) -> None:
    appended(remote, range(2), range(2, 4), range(4, 6))
    before = uploaded_parts(remote.backend)
    remote.backend.remove([before[lost].path])
    with Journal.open(remote, "next", completes_uploads=False):
        assert len(uploaded_parts(remote.backend)) == len(before) - 1
    with Journal.open(remote, "next"):
        assert uploaded_parts(remote.backend) == before
    assert counted(elsewhere, range(6)) == 6


def test_part_uploaded_twice_counts_once(
    remote: Store, elsewhere: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to an upload is lost, and by the next one more has been appended."""
    create = type(remote.backend).create
    lost: list[str] = []

    def loses_first(self: S3, path: str, data: bytes) -> bool:
        done = create(self, path, data)
        if not lost:
            lost.append(path)
            append(journal, reply(1))
            raise PassingError("the answer was lost")
        return done

    with Journal.open(remote, "r", interval=0.01) as journal:
        monkeypatch.setattr(type(remote.backend), "create", loses_first)
        append(journal, reply(0))
        until = time.monotonic() + 30
        while len(uploaded_parts(remote.backend)) < 2 and time.monotonic() < until:
            time.sleep(0.01)
        append(journal, reply(2))
    there = uploaded_parts(remote.backend)
    assert there[0].path == lost[0]
    assert [p.start for p in there] == [0, *(p.end for p in there[:-1])]
    assert counted(elsewhere, range(3)) == 3


def test_overlapping_parts_count_each_line_once(remote: Store, elsewhere: Store) -> None:
    appended(remote, range(3))
    spool = next(log_folder(remote).glob("*.jsonl"))
    remote.backend.write(f"answers/{spool.name}", spool.read_bytes())
    assert counted(elsewhere, range(3)) == 3
    assert counted(remote, range(3)) == 3


def test_log_of_a_live_writer_is_not_completed(remote: Store) -> None:
    with Journal.open(remote, "r", interval=3600) as journal:
        append(journal, reply(0))
        with Journal.open(remote, "other") as other:
            assert other.get(key_of(0)) == reply(0)
        assert uploaded_parts(remote.backend) == []


@pytest.mark.parametrize(("age", "uploaded"), [(0, 0), (2 * LONE_S, 1)])
def test_log_from_before_a_restart_is_completed_once_it_is_old(
    remote: Store, age: float, uploaded: int
) -> None:
    """After a restart, earlier writers of this machine look like those of another one."""
    appended(remote, range(1))
    spool = next(log_folder(remote).glob("*.jsonl"))
    header, _, rest = spool.read_bytes().partition(b"\n")
    content = json.loads(header)
    content["holder"]["machine"] = "this one, started another time"
    spool.write_bytes(json.dumps(content).encode() + b"\n" + rest)
    os.utime(spool, (time.time() - age, time.time() - age))
    remote.backend.remove([p.path for p in uploaded_parts(remote.backend)])
    assert counted(remote, range(1)) == 1
    assert len(uploaded_parts(remote.backend)) == uploaded


def test_unreachable_root_delays_the_upload_and_loses_nothing(
    remote: Store, elsewhere: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(self: S3, path: str, data: bytes) -> bool:
        raise PassingError("the network is away")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        with Journal.open(remote, "r", interval=0.01) as journal:
            patch.setattr(type(remote.backend), "create", away)
            append(journal, reply(0))
            time.sleep(0.1)
        assert 1 <= caplog.text.count("answers lie only on this machine so far") <= 2
    assert counted(elsewhere, range(1)) == 0
    assert counted(remote, range(1)) == 1
    assert counted(elsewhere, range(1)) == 1


def test_large_logs_are_uploaded_in_parts_of_whole_lines(
    remote: Store, elsewhere: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reply_log, "PART_BYTES", 1000)
    with Journal.open(remote, "r", interval=3600) as journal:
        for n in range(30):
            append(journal, reply(n))
        append(journal, reply(30, text="x" * 5000))
        append(journal, reply(31))
    assert len(uploaded_parts(remote.backend)) > 10
    with Journal.open(elsewhere, "next") as journal:
        assert journal.count() == journal.spent("r").requests == 32


def test_parts_are_downloaded_once(remote: Store, elsewhere: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    appended(remote, range(2), range(2, 4))
    assert counted(elsewhere, range(4)) == 4

    def never(self: S3, path: str, target: Path) -> None:
        raise AssertionError(path)

    monkeypatch.setattr(type(remote.backend), "download", never)
    assert counted(elsewhere, range(4)) == 4


def test_remote_root_copied_to_a_disk_is_read(remote: Store, tmp_path: Path) -> None:
    appended(remote, range(2), range(2, 4))
    for part in uploaded_parts(remote.backend):
        target = tmp_path / "copied" / part.path
        target.parent.mkdir(parents=True, exist_ok=True)
        remote.backend.download(part.path, target)
    assert counted(Store.open(str(tmp_path / "copied")), range(4)) == 4
