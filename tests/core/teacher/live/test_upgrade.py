"""Answers that version 0.1 stored are reused."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.completions.completer import stored_completions
from core.completions.journal import Journal
from core.errors import AnswersUnusable, TeacherError
from core.records import Example
from core.store import Store
from core.teacher.live import forecast
from tests.core.teacher.live import old_root
from tests.core.teacher.live.old_root import CUT, MAX_TOKENS, ROWS
from tests.core.teacher.live.textbook import asked, ledger
from tests.servers import teacher as endpoint
from tests.servers.teacher import TeacherServer
from tests.servers.teacher_answers import invented


@pytest.fixture
def old(tmp_path: Path) -> Store:
    return old_root.copy(tmp_path / "root")


@pytest.fixture(scope="module")
def running() -> Iterator[TeacherServer]:
    with endpoint.serve(frames=[old_root.FRAME]) as server:
        yield server


@pytest.fixture
def server(running: TeacherServer, monkeypatch: pytest.MonkeyPatch) -> TeacherServer:
    """A server, reached under the host name that version 0.1 used."""
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{running.port}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    running.recover()
    running.reset_counts()
    return running


@pytest.mark.parametrize("limit", [MAX_TOKENS, 100], ids=["same limit", "lower limit"])
def test_stored_answers_of_version_01_are_reused(old: Store, server: TeacherServer, limit: int) -> None:
    teacher = old_root.teacher(old, "new", max_tokens=limit)
    found = asked(teacher, ROWS)
    assert server.totals().received == 0
    assert sum(len(row.answers) for row in found) == ledger(teacher).reused == 10
    whole = [answer for row in found for answer in row.answers if answer.finish_reason == "stop"]
    assert len(whole) == 9
    assert all(answer.parse_ok for answer in whole)


def test_higher_limit_requests_only_the_truncated_answer(old: Store, server: TeacherServer) -> None:
    for limit, requests in ((2000, 1), (2000, 1), (MAX_TOKENS, 1), (4096, 1)):
        found = asked(old_root.teacher(old, max_tokens=limit), ROWS)
        assert server.totals().received == requests
    again = next(row for row in found if row.example.id == CUT)
    assert again.answers[0].raw_output == invented(again.example.text)
    assert {seen.body["max_tokens"] for seen in server.seen()[-1:]} == {2000}


def test_plan_counts_stored_answers_of_version_01(old: Store) -> None:
    with Journal.open(old, "plan") as journal:
        assert forecast(old_root.teacher(old), ROWS, journal)[0].calls.mean == 0
        assert forecast(old_root.teacher(old, max_tokens=2000), ROWS, journal)[0].calls.low == 1


def test_stored_answers_are_reused_without_a_settled_format(
    old: Store, server: TeacherServer, tmp_path: Path
) -> None:
    for file in (tmp_path / "root/answers/formats").iterdir():
        file.unlink()
    assert sum(len(row.answers) for row in asked(old_root.teacher(old, max_tokens=500), ROWS)) == 10
    assert server.totals().received == 0


@pytest.mark.parametrize("change", [{"model": "teacher-2"}, {"extra_body": {"seed": 1}}], ids=str)
def test_changed_request_does_not_match_old_answers(old: Store, change: dict[str, Any]) -> None:
    teacher = old_root.teacher(old, **change)
    with Journal.open(old, "new") as journal:
        context = teacher.context(journal)
        assert not any(stored_completions(context, row, teacher.next_request) for row in ROWS)


def test_token_limit_is_found_from_few_answered_texts(old: Store) -> None:
    others = [Example(f"x{i}", f"Message {i} of another kind", 0) for i in range(2000)]
    with Journal.open(old, "new") as journal:
        teacher = old_root.teacher(old, max_tokens=4096)
        context = teacher.context(journal)
        found = [stored_completions(context, row, teacher.next_request) for row in [*others, ROWS[5]]]
        assert all(each.reply.max_tokens is None for each in found[-1])
        assert [bool(each) for each in found] == [False] * 2000 + [True]


def test_a_usable_answer_of_version_01_opens_the_canary(old: Store, server: TeacherServer) -> None:
    server.fail("empty_content")
    texts = [Example(f"n{i}", f"New message {i}", 0) for i in range(8)]
    found = asked(old_root.teacher(old, canary=3, attempts=1), [*texts, *ROWS])
    assert sum(not row.answers[0].parse_ok for row in found) == 9
    assert server.totals().received == 8


def test_unusable_answers_of_version_01_count_for_the_canary(old: Store, server: TeacherServer) -> None:
    rows = [dataclasses.replace(ROWS[2], id=CUT), Example("n", "New message", 0)]
    config: dict[str, Any] = {"canary": 1, "attempts": 1}
    with pytest.raises(AnswersUnusable, match=r"teacher\.max_tokens"):
        asked(old_root.teacher(old, **config), rows)
    assert server.totals().received == 0


def test_old_answers_to_other_prompts_are_not_used(old: Store) -> None:
    with pytest.raises(TeacherError):
        asked(old_root.teacher(old, base_url="http://127.0.0.1:9/v1"), ROWS)
