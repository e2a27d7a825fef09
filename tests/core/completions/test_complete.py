"""A second user of the request path: an LLM judge with its own prompts, without texts or labels."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from core.completions import (
    ChatRequest,
    Completion,
    Endpoint,
    Journal,
    Problem,
    RequestContext,
    RequestLedger,
    ResponseSchema,
    TextParser,
    complete,
    complete_each,
)
from core.completions.chat import Reply
from core.errors import AnswersUnusable, TeacherError
from core.prompts import Message
from core.store import Store
from tests.servers import teacher as server_process
from tests.servers.teacher import TeacherServer

FRAME = (Message("system", "You check whether a rationale cites the policy."),)
VERDICT = {"type": "object", "properties": {"verdict": {"type": "string"}}, "required": ["verdict"]}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judge's verdict on one rationale."""

    agrees: bool | None

    @property
    def ok(self) -> bool:
        return self.agrees is not None

    @property
    def error(self) -> str | None:
        return None if self.ok else "no verdict"


class VerdictParser:
    """Reads {"verdict": "agree" | "disagree"}."""

    def __init__(self) -> None:
        self.parsed = 0

    def parse(self, reply: Reply) -> Verdict:
        self.parsed += 1
        try:
            return Verdict(json.loads(reply.raw_output)["verdict"] == "agree")
        except (ValueError, KeyError):
            return Verdict(None)

    def problem(self, reply: Reply, parsed: Verdict) -> Problem | None:
        return None if parsed.ok else Problem("form", "contain no verdict", "change judge.prompt")


def requests(count: int, *, attempt: int = 0) -> list[ChatRequest]:
    """Prompts about rationales, with ids of the judge's own."""
    return [
        ChatRequest(f"rationale-{i}", (*FRAME, Message("user", f"Rationale {i}: it cites R1.")), attempt)
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def running() -> Iterator[TeacherServer]:
    with server_process.serve() as server:
        yield server


@pytest.fixture
def server(running: TeacherServer) -> TeacherServer:
    running.recover()
    running.reset_counts()
    running.fail("written", content='{"verdict": "agree"}')
    return running


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(Store.open(str(tmp_path / "root")), "judging") as journal:
        yield journal


def judge(server: TeacherServer, **config: Any) -> Endpoint:
    return Endpoint.model_validate(
        {"base_url": server.base_url, "model": "judge", "section": "judge", **config}
    )


def test_completions_keep_request_order_and_are_parsed_once(server: TeacherServer, journal: Journal) -> None:
    server.delay(0.01, tail="lognormal", seed=5)
    parser = VerdictParser()
    found = list(complete(requests(50), judge(server), journal, parser, frame=FRAME))
    assert [completion.request.id for completion in found] == [f"rationale-{i}" for i in range(50)]
    assert all(completion.parsed.agrees for completion in found)
    assert parser.parsed == 50
    assert server.totals().received == 50


def test_stored_completion_is_reused_but_a_new_attempt_is_requested(
    server: TeacherServer, journal: Journal
) -> None:
    first = list(complete(requests(5), judge(server), journal, TextParser()))
    assert list(complete(iter(requests(5)), judge(server), journal, TextParser())) == first
    assert server.totals().received == 5
    assert len(list(complete(requests(5, attempt=1), judge(server), journal, TextParser()))) == 5
    assert server.totals().received == 10


def test_unanswered_request_raises_after_the_other_completions(
    server: TeacherServer, journal: Journal
) -> None:
    server.recover()
    server.fail("too_long", first=1)
    completions = complete(requests(4), judge(server, limits={"concurrency": 1}), journal, TextParser())
    answered: list[str] = []
    with pytest.raises(TeacherError, match=r"1 requests to .* got no answer"):
        answered.extend(completion.request.id for completion in completions)
    assert len(answered) == 3
    assert len(list(complete(requests(4), judge(server), journal, TextParser()))) == 4, "it is asked again"
    assert server.totals().received == 5


def test_unusable_completions_stop_the_judge_and_name_its_settings(
    server: TeacherServer, journal: Journal
) -> None:
    server.recover()
    server.fail("written", content="I cannot say.")
    with pytest.raises(AnswersUnusable, match=r"contain no verdict.* change judge\.prompt.* judge\.canary"):
        list(complete(requests(20), judge(server, canary=4), journal, VerdictParser(), frame=FRAME))
    assert server.totals().received == 4


def test_schema_is_sent_and_changes_the_key(server: TeacherServer, journal: Journal) -> None:
    schemas = [ResponseSchema("verdict", VERDICT), ResponseSchema("verdict", {**VERDICT, "title": "Verdict"})]
    for schema in schemas:
        list(complete(requests(2), judge(server), journal, VerdictParser(), schema=schema))
    assert server.totals().received == 4
    sent = server.seen()[-1].body["response_format"]
    assert isinstance(sent, dict)
    assert sent["json_schema"]["name"] == "verdict"


def test_next_request_may_depend_on_earlier_completions(server: TeacherServer, journal: Journal) -> None:
    context, ledger = RequestContext(judge(server), journal, VerdictParser()), RequestLedger()

    def next_request(item: int, given: Sequence[Completion[Verdict]]) -> ChatRequest | None:
        return requests(item + 1, attempt=len(given))[item] if len(given) <= item else None

    found = dict(complete_each(context, range(4), next_request, 4, ledger=ledger))
    assert {item: len(given) for item, given in found.items()} == {0: 1, 1: 2, 2: 3, 3: 4}
    assert ledger.answered == 10
    assert ledger.usage.total > 0


def test_complete_works_inside_a_running_event_loop(server: TeacherServer, journal: Journal) -> None:
    async def main() -> int:
        return len(list(complete(requests(3), judge(server), journal, TextParser())))

    assert asyncio.run(main()) == 3


def test_stopping_early_keeps_completed_requests(server: TeacherServer, journal: Journal) -> None:
    completions = complete(requests(30), judge(server, limits={"concurrency": 2}), journal, TextParser())
    next(completions)
    completions.close()  # type: ignore[attr-defined]
    stored, received = journal.count(), server.totals().received
    assert 1 <= stored <= received <= 30
    assert len(list(complete(requests(30), judge(server), journal, TextParser()))) == 30
    assert server.totals().received <= 30 + received - stored
