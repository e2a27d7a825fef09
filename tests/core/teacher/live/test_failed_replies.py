"""Replies with HTTP status 200 that are failures: retried or refused, counted, never stored as answers."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from core.completions.chat import Reply
from core.completions.client import ChatClient, is_openai
from core.completions.journal import Journal
from core.config import TeacherConfig
from core.errors import BudgetSpent, TeacherError, TeacherRefused
from core.store import Store
from core.teacher.live import LiveTeacher
from core.teacher.parsing import LabelNames
from tests.core.completions.replying import append
from tests.core.teacher.live.dialects.rows import ANSWER, error, reply, usage
from tests.core.teacher.live.textbook import PROMPTS, RULES, asked, examples, ledger
from tests.servers.connections import http_server

GOOD = reply(usage=usage(20, 10, 30))
L01 = usage(200, 40, 2240, completion_tokens_details={"reasoning_tokens": 2000})
BROKEN = reply({"content": ANSWER[:30]}, usage(200, 5, 205), "error", error={"code": 502, "message": "gone"})
Script = Callable[[int], Any]


class Handler(BaseHTTPRequestHandler):
    """Answers the nth request (from 0) with `script(n)`."""

    protocol_version = "HTTP/1.1"
    script: Script = staticmethod(lambda n: GOOD)
    headers_seen: list[dict[str, str]] = []
    lock = threading.Lock()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        with self.lock:
            self.headers_seen.append({name.lower(): value for name, value in self.headers.items()})
            body = json.dumps(type(self).script(len(self.headers_seen) - 1)).encode()
        self.send_response(200)
        for name, value in {"Content-Length": str(len(body)), "retry-after-ms": "1"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def running() -> Iterator[str]:
    with http_server(Handler) as url:
        yield f"{url}/v1"


@pytest.fixture
def serve(running: str, tmp_path: Path) -> Callable[..., LiveTeacher]:
    """Opens teachers on one root, for an endpoint that follows a script."""

    def opened(script: Script, **config: object) -> LiveTeacher:
        Handler.script = staticmethod(script)
        Handler.headers_seen.clear()
        values = {
            "kind": "openai",
            "base_url": running,
            "api_key_env": None,
            "model": "m",
            "attempts": 1,
            "max_tokens": 200,
            "prices": None,
            "limits": {"concurrency": 4, "tries": 4},
        }
        teacher = TeacherConfig.model_validate({**values, **config})
        store = Store.open(str(tmp_path / "root"))
        names = LabelNames()
        return LiveTeacher(teacher, PROMPTS, RULES, names, lambda: Journal.open(store, "r"))

    return opened


def requests() -> int:
    return len(Handler.headers_seen)


def test_budget_holds_if_completion_counts_exclude_reasoning(
    serve: Callable[..., LiveTeacher],
) -> None:
    budget = {"budget": {"tokens": 10_000}, "limits": {"concurrency": 1}}
    with pytest.raises(BudgetSpent):
        asked(serve(lambda n: reply(usage=L01), **budget), examples())
    assert 3 <= requests() <= 5, "2240 tokens each"
    live = serve(lambda n: GOOD)
    asked(live, examples(6))
    assert ledger(live).completion_tokens_of_the_run % 10 == 0
    assert ledger(live).completion_tokens_of_the_run >= 3 * 2040


def test_contradictory_usage_is_logged_once(
    serve: Callable[..., LiveTeacher], caplog: pytest.LogCaptureFixture
) -> None:
    live = serve(lambda n: reply(usage=L01))
    with caplog.at_level(logging.WARNING):
        asked(live, examples(6))
    warnings = [r.getMessage() for r in caplog.records if "contradict" in r.getMessage()]
    assert len(warnings) == 1
    assert "total 2240" in warnings[0]
    assert ledger(live).tokens_now == 6 * 2240


@pytest.mark.parametrize(
    "failure",
    [
        BROKEN,
        reply({"content": ANSWER[:30]}, usage(200, 5, 205), "error"),
        reply({"content": ANSWER}, usage(200, 5, 205), error={"message": "gone"}),
        reply({"content": ANSWER}, usage(200, 5, 205), error="gone"),
        {**reply({"content": ANSWER}, usage(200, 5, 205)), **error("gone", code="server_error")},
        {**reply(usage=usage(200, 5, 205)), "choices": []},
        {**reply(usage=usage(200, 5, 205)), "choices": None},
        {**reply(usage=usage(200, 5, 205)), "choices": [{"message": None, "finish_reason": "stop"}]},
        reply({"content": ANSWER}, usage(200, 5, 205), "abort"),
        reply({"content": ANSWER}, usage(200, 5, 205), "half of it"),
        reply({"content": ""}, usage(200, 5, 205), None),
    ],
    ids=lambda failure: None,
)  # fmt: skip
def test_failure_with_status_200_is_retried_counted_and_never_stored(
    serve: Callable[..., LiveTeacher], failure: Any
) -> None:
    live = serve(lambda n: GOOD if n % 2 == 0 else failure)
    found = asked(live, examples(6))
    assert [a.raw_output for answered in found for a in answered.answers] == [ANSWER] * 6
    failed = requests() - 6
    counted = ledger(live)
    assert failed > 0
    assert sum(counted.retried.values()) == failed
    assert counted.tokens_now == 6 * 30 + failed * 205
    again = serve(lambda n: GOOD)
    assert asked(again, examples(6)) == found
    assert requests() == 0
    spent = ledger(again)
    assert spent.prompt_tokens_of_the_run == 6 * 20 + failed * 200, "the next start counts them too"


def test_failure_in_all_tries_is_reported_with_its_finish_reason(serve: Callable[..., LiveTeacher]) -> None:
    live = serve(
        lambda n: GOOD if n == 0 else reply(finish="half of it"), limits={"concurrency": 1, "tries": 2}
    )
    with pytest.raises(TeacherError, match="finish_reason 'half of it'"):
        asked(live, examples(2))


def test_failed_reply_stored_by_an_earlier_version_is_requested_again(
    serve: Callable[..., LiveTeacher],
) -> None:
    live = serve(lambda n: GOOD)
    example = examples(1)[0]
    asked(live, examples(2)[1:])
    request = live.next_request(example, ())
    assert request is not None
    with live._open() as journal:
        key = live.context(journal).prepare(request).key
        broken = Reply(
            key, "r", example.id, 0, 0.0, False, "m", ANSWER[:9], None, "error", 200, 0, 5, 1.0,
            "json_schema", "2025-01-01T00:00:00+00:00",
        )  # fmt: skip
        append(journal, broken)
        append(journal, broken)
    live = serve(lambda n: GOOD)
    assert [a.label for a in asked(live, [example])[0].answers] == [1]
    assert requests() == 1
    assert ledger(live).prompt_tokens_of_the_run == 2 * 200 + 2 * 20


@pytest.mark.parametrize(
    "refusal",
    [
        error("no", code=401),
        error("no", code="402"),
        error("no", type="insufficient_quota"),
        error("no", status=403),
        reply({"content": ""}, None, "error", error={"code": 402, "message": "no"}),
        [error("no", code=403, status="PERMISSION_DENIED")],
    ],
)
@pytest.mark.parametrize("first", [0, 5])
def test_refusal_with_status_200_stops_the_run(
    serve: Callable[..., LiveTeacher], refusal: Any, first: int
) -> None:
    live = serve(lambda n: GOOD if n < first else refusal)
    with pytest.raises(TeacherRefused):
        asked(live, examples())
    assert requests() <= first + 4, "four are sent at once"


def test_rate_limit_with_status_200_slows_down_and_loses_nothing(serve: Callable[..., LiveTeacher]) -> None:
    live = serve(lambda n: error("busy", code=429) if n in (3, 4) else GOOD)
    assert all(answered.answers for answered in asked(live, examples(8)))
    assert ledger(live).retried == {"HTTP 429": 2}
    assert requests() == 10


OPENAI_ENV = {
    "OPENAI_ORG_ID": "org-of-mine",
    "OPENAI_PROJECT_ID": "project-of-mine",
    "OPENAI_ADMIN_KEY": "admin-of-mine",
    "OPENAI_API_KEY": "key-of-mine",  # pragma: allowlist secret
    "OPENAI_CUSTOM_HEADERS": "X-Custom: custom-of-mine\nAuthorization: Bearer other-of-mine",
}


@pytest.mark.parametrize("key_env", [None, "TEST_OTHER_KEY"])
def test_openai_environment_variables_are_not_sent_to_other_endpoints(
    serve: Callable[..., LiveTeacher], monkeypatch: pytest.MonkeyPatch, key_env: str | None
) -> None:
    for name, value in OPENAI_ENV.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TEST_OTHER_KEY", "the-others-key")
    asked(serve(lambda n: GOOD, api_key_env=key_env), examples(1))
    [headers] = Handler.headers_seen
    assert not [value for value in headers.values() if "-of-mine" in value]
    assert not {"openai-organization", "openai-project", "x-custom"} & set(headers)
    assert headers["authorization"] == f"Bearer {'the-others-key' if key_env else 'none'}"


def test_openai_gets_organization_and_project(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in OPENAI_ENV.items():
        monkeypatch.setenv(name, value)
    config = TeacherConfig.model_validate({"kind": "openai", "preset": "openai"})
    sent = ChatClient(config.endpoint, {})._client.default_headers
    assert (sent["OpenAI-Organization"], sent["OpenAI-Project"]) == ("org-of-mine", "project-of-mine")


@pytest.mark.parametrize(
    ("url", "openai"),
    [
        ("https://api.openai.com/v1", True),
        ("https://API.OpenAI.com./v1/", True),
        ("https://eu.api.openai.com/v1", True),
        ("https://api.openai.com.example.org/v1", False),
        ("https://notapi.openai.com/v1", False),
        ("https://example.org/api.openai.com/v1", False),
        ("https://mine.openai.azure.com/openai/v1", False),
        ("http://127.0.0.1:8000/v1", False),
    ],
)
def test_openai_is_recognized_by_its_host(url: str, openai: bool) -> None:
    assert is_openai(url) is openai
