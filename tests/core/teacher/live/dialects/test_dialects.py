"""Each row of the dialect table is served over HTTP and handled as the row states."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from core.completions.failures import read_rate_limit, retry_after
from core.completions.journal import Journal
from core.config import TeacherConfig
from core.errors import TeacherRefused
from core.store import Store
from core.teacher.live import LiveTeacher
from core.teacher.parsing import LabelNames
from tests.core.teacher.live.dialects.answers import ROWS
from tests.core.teacher.live.dialects.failures import BY_STATUS, FORMATS, IN_200
from tests.core.teacher.live.dialects.limits import DATE, LEFT, WAITS, Left, Wait
from tests.core.teacher.live.dialects.rows import Row, reply, usage
from tests.core.teacher.live.textbook import PROMPTS, RULES, asked, examples, ledger
from tests.servers.connections import http_server

ALL = [*ROWS, *IN_200, *BY_STATUS, *FORMATS]
SERVERS = (
    "OpenAI", "Azure OpenAI", "DeepSeek", "xAI", "Gemini", "OpenRouter", "vLLM", "SGLang", "llama.cpp",
    "Ollama", "LiteLLM", "Fireworks", "Together",
)  # fmt: skip
GOOD = 30
"""Tokens of the good answer that follows a failure."""


class Handler(BaseHTTPRequestHandler):
    """Answers a request with the row that its model names, then with a good answer."""

    protocol_version = "HTTP/1.1"
    rows = {row.id: row for row in ALL}
    asked: Counter[str] = Counter()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        row = self.rows[body["model"]]
        self.asked[row.id] += 1
        if row.outcome == "fall back":
            chosen = body.get("response_format", {}).get("type", "plain") in row.rejects
        else:
            chosen = row.outcome != "retry" or self.asked[row.id] <= row.times
        if chosen:
            self._send(row.status, row.raw(), row.headers)
        else:
            self._send(200, json.dumps(reply(usage=usage(20, 10, 30))).encode(), {})

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        fixed = {"Content-Type": "application/json", "Content-Length": str(len(body)), "retry-after-ms": "1"}
        for name, value in (fixed | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """One server for the whole table."""
    with http_server(Handler) as url:
        yield f"{url}/v1"


def teacher(row: Row, endpoint: str, root: Path) -> LiveTeacher:
    """A live teacher that asks for this row; its format is settled unless the row is about that."""
    config = TeacherConfig.model_validate(
        {
            "kind": "openai",
            "base_url": endpoint,
            "api_key_env": None,
            "model": row.id,
            "attempts": 1,
            "max_tokens": 200,
            "prices": None,
            "limits": {"concurrency": 1, "tries": 4},
        }
    )
    store = Store.open(str(root))
    Handler.asked[row.id] = 0
    live = LiveTeacher(config, PROMPTS, RULES, LabelNames(), lambda: Journal.open(store, "r"))
    if row.outcome != "fall back":
        with Journal.open(store, "r") as journal:
            live.context(journal).settle_format()
    return live


def rows(*outcomes: str) -> list[object]:
    return [pytest.param(row, id=row.id) for row in ALL if row.outcome in outcomes]


@pytest.mark.parametrize("row", rows("answer", "truncated", "filtered", "unusable"))
def test_an_answer_is_read_and_its_tokens_are_counted(row: Row, endpoint: str, tmp_path: Path) -> None:
    live = teacher(row, endpoint, tmp_path)
    [answer] = asked(live, examples(1))[0].answers
    assert Handler.asked[row.id] == 1
    assert ledger(live).tokens_now == row.tokens
    if row.outcome == "answer":
        assert (answer.label, answer.parse_source, answer.error) == (1, row.parse_source, None)
    else:
        assert not answer.parse_ok
        assert (answer.error == row.outcome) == (row.outcome != "unusable")
    assert asked(teacher(row, endpoint, tmp_path), examples(1))[0].answers == (answer,)
    assert Handler.asked[row.id] == 0, "it is stored"


@pytest.mark.parametrize("row", rows("retry"))
def test_failed_request_is_retried_and_its_usage_counted(row: Row, endpoint: str, tmp_path: Path) -> None:
    live = teacher(row, endpoint, tmp_path)
    [answer] = asked(live, examples(1))[0].answers
    assert (answer.label, answer.parse_source) == (1, "json")
    counted = ledger(live)
    assert Handler.asked[row.id] == 2
    assert sum(counted.retried.values()) == 1
    assert counted.tokens_now == row.tokens + GOOD
    again = teacher(row, endpoint, tmp_path)
    asked(again, examples(1))
    spent = ledger(again)
    assert spent.prompt_tokens_of_the_run + spent.completion_tokens_of_the_run == row.tokens + GOOD


@pytest.mark.parametrize("row", rows("stop"))
def test_a_refused_key_or_account_stops_at_the_first_request(row: Row, endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(TeacherRefused):
        asked(teacher(row, endpoint, tmp_path), examples(20))
    assert Handler.asked[row.id] == 1


@pytest.mark.parametrize("row", rows("skip"))
def test_rejected_text_has_no_answer(row: Row, endpoint: str, tmp_path: Path) -> None:
    live = teacher(row, endpoint, tmp_path)
    assert not asked(live, examples(1))[0].answers
    # An error without a reason may be about the format, so that simpler ones are tried first.
    assert Handler.asked[row.id] == row.times
    assert sum(ledger(live).given_up.values()) == 1


@pytest.mark.parametrize("row", rows("fall back"))
def test_rejected_format_is_replaced_by_an_accepted_one(row: Row, endpoint: str, tmp_path: Path) -> None:
    live = teacher(row, endpoint, tmp_path)
    answers = [a for answered in asked(live, examples(3)) for a in answered.answers]
    assert [a.label for a in answers] == [1, 1, 1]
    assert live.facts().output_format not in row.rejects


@pytest.mark.parametrize("wait", WAITS, ids=lambda wait: wait.server)
def test_requested_wait_is_read(wait: Wait) -> None:
    later = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
    assert retry_after({**wait.headers, "Date": DATE}, later) == pytest.approx(wait.seconds)


@pytest.mark.parametrize("left", LEFT, ids=lambda left: left.server)
def test_remaining_limit_is_read(left: Left) -> None:
    headers = {**left.headers, "Date": DATE}
    assert read_rate_limit(headers, "requests") == left.requests
    assert read_rate_limit(headers, "tokens") == left.tokens


def test_table_covers_every_server_and_names_each_source() -> None:
    assert {row.server for row in ALL} >= set(SERVERS)
    sources = [row.source for row in ALL] + [wait.source for wait in WAITS] + [left.source for left in LEFT]
    assert all(source.startswith("https://") for source in sources)
    assert len({row.id for row in ALL}) == len(ALL)
