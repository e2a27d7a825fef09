"""No more than 50 requests are paid for before one answer to the prompt is usable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from core.completions.chat import ChatRequest
from core.completions.journal import Journal
from core.completions.request_context import Canary
from core.errors import AnswersUnusable, UserError
from core.records import Example
from core.store import Store
from core.teacher.live import LiveTeacher
from tests.core.completions.replying import reply
from tests.core.teacher.live.textbook import asked, examples
from tests.servers.teacher import TeacherServer
from tests.servers.teacher_answers import invented_label

Live = Callable[..., LiveTeacher]
UNUSABLE: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"kind": "empty_content"}, {}, "teacher.extra_body"),
    ({"kind": "content_filter"}, {}, "filter"),
    ({"kind": "broken_json"}, {}, "teacher.parse.label_pattern"),
    ({"kind": "written", "content": '{"reasoning": "So." "label": 1}'}, {}, "teacher.parse.label_pattern"),
    ({"kind": "written", "content": "I am sorry, I cannot do that."}, {}, "teacher.parse.label_pattern"),
    ({"kind": "written", "content": '{"reasoning": "So.", "label": "spam"}'}, {}, "teacher.parse.labels"),
    ({"kind": "written", "content": '{"label": 1}'}, {}, "prompts.file"),
    ({"kind": "written", "content": "Let me", "finish_reason": "MAX_TOKENS"}, {}, "teacher.max_tokens"),
    ({"kind": "no_usage"}, {"max_tokens": 8}, "teacher.max_tokens"),
]


def many(count: int, name: str = "m") -> list[Example]:
    texts = [f"Message {name} {i}: shall we meet at the quay?" for i in range(count)]
    return [Example(f"{name}{i}", text, invented_label(text)) for i, text in enumerate(texts)]


@pytest.mark.parametrize(("fault", "config", "setting"), UNUSABLE, ids=lambda value: str(value)[:40])
def test_run_stops_after_50_unusable_answers_with_the_remedy(
    server: TeacherServer, live: Live, fault: dict[str, Any], config: dict[str, Any], setting: str
) -> None:
    server.fail(**fault)
    with pytest.raises(UserError) as stopped:
        asked(live(**config), many(120))
    assert isinstance(stopped.value, AnswersUnusable)
    assert stopped.value.exit_code == 2
    assert setting in str(stopped.value)
    assert server.totals().received == 50
    with pytest.raises(AnswersUnusable):
        asked(live(run="another", **config), many(180))
    assert server.totals().received == 50, "another start pays for none"


def test_answers_that_a_changed_parser_can_read_are_not_requested_again(
    server: TeacherServer, live: Live
) -> None:
    server.fail("written", content="So it is one. Verdict = 1.")
    with pytest.raises(AnswersUnusable, match=r"So it is one\. Verdict = 1\."):
        asked(live(), many(120))
    found = asked(live(parse={"label_pattern": "Verdict = ([01])"}), many(120))
    assert {answer.label for row in found for answer in row.answers} == {1}
    assert server.totals().received == 120


@pytest.mark.parametrize(
    "change", [{"max_tokens": 300}, {"extra_body": {"seed": 1}}, {"model": "m-2"}], ids=str
)
def test_another_setup_starts_another_canary(
    server: TeacherServer, live: Live, change: dict[str, object]
) -> None:
    server.fail("written", content="Let me", finish_reason="length")
    for run, config in (("a", {}), ("b", change)):
        with pytest.raises(AnswersUnusable):
            asked(live(run=run, **config), many(120))
    assert server.totals().received == 100
    server.recover()
    assert all(row.answers[0].parse_ok for row in asked(live(max_tokens=400), many(120)))


def test_one_usable_answer_opens_the_canary_for_later_starts(server: TeacherServer, live: Live) -> None:
    asked(live(), examples(1))
    server.fail("empty_content")
    assert all(not row.answers[0].parse_ok for row in asked(live(run="later"), many(70)))
    assert server.totals().received == 71


def test_usable_answer_among_unusable_ones_opens_the_canary(server: TeacherServer, live: Live) -> None:
    server.fail("empty_content", first=49)
    found = asked(live(), many(70))
    assert sum(not row.answers[0].parse_ok for row in found) == 49
    assert server.totals().received == 70


def test_canary_counts_all_attempts(server: TeacherServer, live: Live) -> None:
    server.fail("empty_content")
    with pytest.raises(AnswersUnusable):
        asked(live(attempts=3, hint=True), many(40))
    assert server.totals().received == 50


def test_fewer_texts_than_the_canary_are_all_requested(server: TeacherServer, live: Live) -> None:
    server.fail("empty_content")
    assert len(asked(live(), many(30))) == 30
    assert server.totals().received == 30
    with pytest.raises(AnswersUnusable):
        asked(live(), many(120))
    assert server.totals().received == 50, "those of the earlier start count"


def test_canary_holds_with_a_settled_format_and_high_concurrency(server: TeacherServer, live: Live) -> None:
    asked(live(), examples(1))
    server.delay(0.02)
    server.fail("empty_content")
    with pytest.raises(AnswersUnusable):
        asked(live(extra_body={"seed": 1}, limits={"concurrency": 200, "tries": 2}), many(300))
    assert server.totals().received == 51


def test_concurrent_runs_share_one_canary(server: TeacherServer, live: Live) -> None:
    server.delay(0.02)
    server.fail("empty_content")

    def stopped(run: str) -> bool:
        with pytest.raises(AnswersUnusable):
            asked(live(run), many(120, run))
        return True

    with ThreadPoolExecutor() as pool:
        assert all(pool.map(stopped, ["first", "second"]))
    assert server.totals().received == 50


def test_canary_limit_is_configurable(server: TeacherServer, live: Live) -> None:
    server.fail("empty_content")
    for canary, received in ((5, 5), (12, 12), (8, 12)):
        with pytest.raises(AnswersUnusable):
            asked(live(canary=canary), many(40))
        assert server.totals().received == received


def test_unanswered_request_returns_its_canary_permit(live: Live, tmp_path: Path) -> None:
    async def main() -> None:
        with Journal.open(Store.open(str(tmp_path / "root")), "r") as journal:
            context = live(canary=2).context(journal)
            canary = Canary(context)

            def judge(text: str) -> None:
                request = ChatRequest("t", ())
                canary.judge(context.completion(request, reply(text=text)))

            for _ in range(5):
                await canary.enter()
                canary.leave()
            await canary.enter()
            await canary.enter()
            third = asyncio.create_task(canary.enter())
            await asyncio.sleep(0.05)
            assert not third.done()
            judge("no label")
            await asyncio.sleep(0.05)
            assert not third.done()
            judge('{"reasoning": "So.", "label": 1}')
            await third
            await canary.close()

    asyncio.run(main())
