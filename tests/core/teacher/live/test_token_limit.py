"""Another token limit requests only truncated answers again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from core.completions.journal import Journal
from core.store import Store
from core.teacher.live import LiveTeacher, forecast
from tests.core.teacher.live.textbook import asked, examples, ledger
from tests.servers.teacher import TeacherServer

Live = Callable[..., LiveTeacher]


@pytest.fixture
def newly(server: TeacherServer, live: Live) -> Callable[..., list[str]]:
    """Asks ten texts with other settings; returns the texts that reached the server."""

    def newly_asked(**config: object) -> list[str]:
        before = server.totals().received
        asked(live(**config), examples(10))
        count = server.totals().received - before
        return sorted(seen.id for seen in server.seen()[-count:]) if count else []

    return newly_asked


@pytest.mark.parametrize("reason", ["length", "max_tokens", "MAX_TOKENS"])
def test_higher_limit_requests_truncated_answers_again(
    server: TeacherServer, newly: Callable[..., list[str]], live: Live, reason: str
) -> None:
    server.fail("written", ids=["t02", "t07"], first=2, content='{"reasoning": "The', finish_reason=reason)
    assert len(newly()) == 10
    assert newly(max_tokens=400) == ["t02", "t07"]
    assert newly(max_tokens=800) == []
    teacher = live(max_tokens=400)
    assert all(row.answers[0].parse_ok for row in asked(teacher, examples(10)))
    assert (ledger(teacher).asked_now, ledger(teacher).reused) == (0, 10)


def test_answer_truncated_again_is_requested_at_the_next_limit(
    server: TeacherServer, newly: Callable[..., list[str]]
) -> None:
    server.fail("length", ids=["t02"], first=2)
    newly()
    assert [newly(max_tokens=limit) for limit in (400, 400, 300, 800, 801)] == [["t02"], [], [], ["t02"], []]


def test_lower_limit_sends_no_request(server: TeacherServer, newly: Callable[..., list[str]]) -> None:
    server.fail("length", ids=["t02"])
    newly()
    assert newly(max_tokens=10) == []
    assert newly(max_tokens=199) == []


def test_cut_answer_without_a_finish_reason_counts_as_truncated(
    server: TeacherServer, newly: Callable[..., list[str]]
) -> None:
    server.fail("written", ids=["t02"], first=1, content='{"reasoning": "The', finish_reason="")
    newly()
    assert newly(max_tokens=400) == ["t02"]


def test_complete_unusable_answer_is_not_requested_again(
    server: TeacherServer, newly: Callable[..., list[str]]
) -> None:
    server.fail("broken_json", ids=["t02"])
    server.fail("content_filter", ids=["t03"])
    newly()
    assert newly(max_tokens=400) == []


def test_later_attempts_are_reused(server: TeacherServer, newly: Callable[..., list[str]]) -> None:
    both = {"attempts": 2, "keep": 2}
    assert len(newly(**both)) == 20
    assert newly(**both, max_tokens=400) == []


def test_settings_of_speed_money_and_parsing_send_no_request(newly: Callable[..., list[str]]) -> None:
    newly()
    changes: list[dict[str, object]] = [
        {"limits": {"concurrency": 3, "read_timeout_s": 7, "total_timeout_s": 9, "tries": 2}},
        {"budget": {"tokens": 10}},
        {"canary": 3},
        {"token_limit": "max_completion_tokens"},
        {"prices": None},
        {"parse": {"labels": {"spam": 1}}},
        {"max_missing": 3},
    ]
    assert [newly(**change) for change in changes] == [[]] * len(changes)


def test_plan_counts_the_requests_of_another_limit(
    server: TeacherServer, newly: Callable[..., list[str]], live: Live, tmp_path: Path
) -> None:
    server.fail("length", ids=["t02"])
    newly()
    with Journal.open(Store.open(str(tmp_path / "root")), "plan") as journal:
        assert forecast(live(max_tokens=400), examples(10), journal)[0].calls.mean == 1
        assert forecast(live(max_tokens=100), examples(10), journal)[0].calls.mean == 0
