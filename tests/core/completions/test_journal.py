"""The journal: every appended reply is found by every run, however its writer ended."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from core import durable
from core.completions.chat import Reply, ReplyUsage, ResponseSchema, TextParser, decode_reply, encode_reply
from core.completions.journal import Journal, log_folder
from core.completions.request_context import RequestContext
from core.config import Endpoint
from core.errors import StoreError
from core.store import Store, pointers
from tests.core.completions.replying import append, key_of, killed_while_appending, reply


def read(store: Store, names: range) -> list[Reply | None]:
    """The replies that another run finds for the named requests."""
    with Journal.open(store, "reader") as journal:
        return [journal.get(key_of(n)) for n in names]


def written(store: Store, names: range, run: str = "r") -> Path:
    """Append replies in one journal, close it, and return its log."""
    before = set(log_folder(store).glob("*.jsonl"))
    with Journal.open(store, run, interval=60) as journal:
        for n in names:
            append(journal, reply(n, run=run))
    return (set(log_folder(store).glob("*.jsonl")) - before).pop()


def test_replies_of_one_run_are_found_by_later_runs(store: Store) -> None:
    written(store, range(3))
    assert read(store, range(4)) == [reply(0), reply(1), reply(2), None]


def test_appended_reply_is_found_at_once_and_is_on_disk(store: Store) -> None:
    with Journal.open(store, "r") as journal:
        assert journal.get(key_of(0)) is None
        asyncio.run(journal.append(reply(0)))
        assert journal.get(key_of(0)) == reply(0)
        spool = next(log_folder(store).glob("*.jsonl"))
        assert spool.read_bytes().splitlines(keepends=True)[-1] == encode_reply(reply(0))


def test_reading_a_journal_writes_nothing(store: Store) -> None:
    assert read(store, range(1)) == [None]
    assert store.backend.list("answers") == []
    assert list(log_folder(store).glob("*")) == []


def test_completed_appends_survive_kill_9(root: str, caplog: pytest.LogCaptureFixture) -> None:
    keys = killed_while_appending(root, "killed", 0.05)
    with caplog.at_level(logging.WARNING), Journal.open(Store.open(root), "next") as journal:
        assert [k for k in keys if journal.get(k) is None] == []
        assert journal.spent("killed").requests == journal.count() >= len(keys)
    torn = [r for r in caplog.records if "torn" in r.message]
    assert len(caplog.records) == len(torn) <= 1


@pytest.mark.parametrize("first", ["a", "b"])
def test_earlier_of_two_replies_is_found_by_every_journal(store: Store, first: str) -> None:
    with Journal.open(store, "a") as a, Journal.open(store, "b") as b:
        times = {"a": 1, "b": 1} | {first: 0}
        for journal in (a, b):
            append(journal, reply("x", run=journal.run, second=times[journal.run]))
        for journal in (a, b):
            journal.refresh()
            found = journal.get(key_of("x"))
            assert found is not None
            assert found.run == first
            assert [journal.spent(run).requests for run in "ab"] == [1, 1], "both were paid for"


def test_replies_of_the_same_second_are_found_in_the_order_of_writers(store: Store) -> None:
    spools = {run: written(store, range(1), run).stem for run in "abc"}
    first = min(spools, key=lambda run: spools[run])
    assert [r.run for r in read(store, range(1)) if r] == [first]


def test_concurrent_runs_agree_on_replies_of_the_same_second(store: Store) -> None:
    with Journal.open(store, "a") as a, Journal.open(store, "b") as b:
        for journal in (a, b):
            append(journal, reply(0, run=journal.run))
        a.refresh()
        b.refresh()
        assert a.get(key_of(0)) == b.get(key_of(0))


def test_two_concurrent_writers_lose_nothing(store: Store) -> None:
    with Journal.open(store, "a", interval=0.01) as a, Journal.open(store, "b", interval=0.01) as b:

        def work(journal: Journal) -> None:
            for n in range(50):
                append(journal, reply((journal.run, n), run=journal.run))

        threads = [threading.Thread(target=work, args=(j,)) for j in (a, b)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with Journal.open(store, "c") as c:
        assert c.count() == 100
        assert c.spent("a") == c.spent("b") == ReplyUsage(50, 500, 50, 100, 0)


def test_refresh_adds_new_replies_of_other_journals_once(store: Store) -> None:
    with Journal.open(store, "a", interval=0.01) as a, Journal.open(store, "b") as b:
        for n in range(5):
            append(a, reply(n, run="a"))
            b.refresh()
            b.refresh()
            assert b.get(key_of(n)) is not None
            assert b.spent("a").requests == n + 1


def test_torn_last_line_loses_only_that_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store.open(str(tmp_path))
    spool = written(store, range(2))
    data = spool.read_bytes()
    last = encode_reply(reply(1))
    for cut in range(1, len(last)):
        spool.write_bytes(data[:-cut])
        caplog.clear()
        with Journal.open(store, "next") as journal:
            assert journal.get(key_of(0)) == reply(0)
            assert journal.get(key_of(1)) is None
            assert journal.spent("r").requests == 1
        assert f"{spool}:3: the last line is torn" in caplog.text


@pytest.mark.parametrize("damage", [b"\x00" * 40, b"{}", b'{"key": 1}', b"[1]", b"", b"\xff{"])
def test_broken_line_is_logged_and_loses_only_that_line(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store.open(str(tmp_path))
    spool = written(store, range(3))
    spool.write_bytes(spool.read_bytes().replace(encode_reply(reply(1)), damage + b"\n"))
    with Journal.open(store, "next") as journal:
        assert [journal.get(key_of(n)) for n in range(3)] == [reply(0), None, reply(2)]
    assert f"{spool}:3: no reply can be read there" in caplog.text


def test_full_disk_raises_for_all_waiting_appends_and_counts_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def many(journal: Journal, first: int) -> list[BaseException | None]:
        work = (journal.append(reply(n)) for n in range(first, first + 20))
        return await asyncio.gather(*work, return_exceptions=True)

    with Journal.open(store, "r", interval=0.01) as journal:
        append(journal, reply(0))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            failures = asyncio.run(many(journal, 1)) + asyncio.run(many(journal, 21))
        assert {type(e) for e in failures} == {StoreError}
        assert "No space left on device; free disk space and run the same command again" in str(failures[0])
        assert journal.spent("r").requests == journal.count() == 1
        assert asyncio.run(many(journal, 1)) == [None] * 20, "there is room again"
    with Journal.open(store, "next") as journal:
        assert journal.count() == journal.spent("r").requests == 21
        assert journal.get(key_of(30)) is None


def test_concurrent_appends_share_fsyncs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    fsync = os.fsync

    def counted(fd: int) -> None:
        nonlocal calls
        calls += 1
        fsync(fd)

    async def work(journal: Journal) -> None:
        await asyncio.gather(*(journal.append(reply(n)) for n in range(1000)))

    with Journal.open(Store.open(str(tmp_path)), "r") as journal:
        monkeypatch.setattr(os, "fsync", counted)
        asyncio.run(work(journal))
        assert journal.count() == 1000
    assert calls <= 50


def test_reply_of_a_canceled_caller_is_kept(store: Store) -> None:
    async def work(journal: Journal) -> None:
        task = asyncio.create_task(journal.append(reply(0)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await journal.append(reply(1))

    with Journal.open(store, "r") as journal:
        asyncio.run(work(journal))
    assert read(store, range(2)) == [reply(0), reply(1)]


def test_failpoint_is_passed_once_after_each_append(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    passed: list[str] = []

    def passing(name: str, about: str) -> None:
        assert journal.get(about) is not None
        passed.append(name)

    with Journal.open(store, "r") as journal:
        monkeypatch.setattr(durable, "on_failpoint", passing)
        append(journal, reply(0))
        asyncio.run(journal.append(reply(1)))
    assert passed == [durable.ANSWER_APPENDED] * 2


def formats(
    journal: Journal, output_format: str = "", url: str = "http://h/v1", model: str = "m"
) -> str | None:
    """Settle a format, if one is given, and return the one that another request finds."""
    endpoint, schema = Endpoint(base_url=url, model=model), ResponseSchema("s", {})
    context = RequestContext(endpoint, journal, TextParser(), schema=schema)
    if output_format:
        context.output_format = output_format
        context.settle_format()
    return context.output_format if context.take_format() else None


def test_first_settled_format_is_used_by_all_runs(store: Store) -> None:
    with Journal.open(store, "a") as a, Journal.open(store, "b") as b:
        assert formats(b) is None
        assert formats(a, "json_object") == "json_object"
        assert formats(b, "plain", "http://h/v1/") == formats(b) == "json_object"
        assert formats(b, model="other") is None
    with Journal.open(store, "c") as c:
        assert formats(c) == "json_object"


def test_garbage_collection_keeps_answers(store: Store) -> None:
    written(store, range(2))
    with Journal.open(store, "r") as journal:
        formats(journal, "plain")
    before = store.backend.list("answers")
    pointers.collect(store, pointers.find_garbage(store, grace=-1))
    assert store.backend.list("answers") == before != []
    assert read(store, range(2)) == [reply(0), reply(1)]


def test_reply_without_token_counts_is_counted_as_unmetered(store: Store) -> None:
    with Journal.open(store, "r") as journal:
        append(journal, reply(0, tokens=None))
        append(journal, reply(1))
        assert journal.spent("r") == ReplyUsage(2, 10, 1, 2, unmetered=1)
        assert journal.spent("other") == ReplyUsage()


def test_fields_of_later_versions_are_ignored(store: Store) -> None:
    row = {**reply(0)._asdict(), "new_field": 1}
    assert decode_reply(json.dumps(row).encode() + b"\n") == reply(0)


@pytest.mark.parametrize(
    "change", [{"key": "xyz"}, {"at": "2026-01-01T00:00:00"}, {"latency_s": float("nan")}, {"key": "ab"}]
)
def test_reply_that_could_not_be_found_is_rejected(tmp_path: Path, change: dict[str, Any]) -> None:
    with Journal.open(Store.open(str(tmp_path)), "r") as journal:
        with pytest.raises(ValueError):
            append(journal, reply(0)._replace(**change))
        assert journal.spent("r") == ReplyUsage()


def test_reply_altered_on_disk_is_requested_once_more(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    with Journal.open(store, "r") as journal:
        append(journal, reply(0))
        spool = next(log_folder(store).glob("*.jsonl"))
        spool.write_bytes(spool.read_bytes().replace(b'"raw_output"', b'"raw_ouxput"'))
        assert journal.get(key_of(0)) is None
        append(journal, reply(0, second=1))
        assert journal.get(key_of(0)) == reply(0, second=1)


def test_torn_line_is_logged_once_over_many_refreshes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store.open(str(tmp_path))
    spool = written(store, range(2))
    spool.write_bytes(spool.read_bytes()[:-5])
    with Journal.open(store, "next") as journal:
        journal.refresh()
        journal.refresh()
    assert len([r for r in caplog.records if "torn" in r.message]) == 1


def test_version_01_line_with_an_unusual_id_or_finish_reason_is_read(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    spool = written(store, range(1))
    row = json.loads(spool.read_bytes().splitlines()[1])
    odd = {**row, "key": key_of("odd"), "example_id": 5, "finish_reason": 3}
    with spool.open("a") as f:
        f.write(json.dumps(odd) + "\n")
    with Journal.open(store, "next") as journal:
        found = journal.get(key_of("odd"))
    assert found is not None
    assert found.raw_output == row["raw_output"]


def test_unknown_stored_format_is_reported_with_its_file(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    error = pytest.raises(StoreError, match=r"formats/\w+\.json names an output format 'smoke signals'")
    with Journal.open(store, "r") as journal, error:
        formats(journal, "smoke signals")
