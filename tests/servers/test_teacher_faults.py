"""What a real client sees of each fault of the teacher's server, and what the server billed for it."""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Iterator
from typing import Any, get_args

import aiohttp
import openai
import pytest

from tests.servers import teacher
from tests.servers.teacher_answers import invented
from tests.servers.teacher_client import FRAME, PRIZE, SCHEMA, ask, ask_all, content
from tests.servers.teacher_limits import duration
from tests.servers.teacher_orders import Change, Delivery, FaultKind, Refusal

REFUSALS: dict[Refusal, tuple[type[openai.APIStatusError], int, str | None]] = {
    "server_error": (openai.InternalServerError, 500, None),
    "bad_gateway": (openai.InternalServerError, 502, None),
    "unavailable": (openai.InternalServerError, 503, None),
    "unauthorized": (openai.AuthenticationError, 401, "invalid_api_key"),
    "no_balance": (openai.APIStatusError, 402, "invalid_request_error"),
    "forbidden": (openai.PermissionDeniedError, 403, "unsupported_country_region_territory"),
    "unknown_model": (openai.NotFoundError, 404, "model_not_found"),
    "no_quota": (openai.RateLimitError, 429, "insufficient_quota"),
    "rate_limited": (openai.RateLimitError, 429, "rate_limit_exceeded"),
    "too_long": (openai.BadRequestError, 400, "context_length_exceeded"),
    "prompt_filtered": (openai.BadRequestError, 400, "content_filter"),
    "no_schema": (openai.BadRequestError, 400, None),
    "schema_unavailable": (openai.BadRequestError, 400, "invalid_request_error"),
    "no_response_format": (openai.BadRequestError, 400, None),
    "format_rejected": (openai.BadRequestError, 400, None),
}
WHOLE = invented(PRIZE)
CHANGES: dict[Change, tuple[str, str]] = {
    "length": ("length", WHOLE[: len(WHOLE) // 2]),
    "broken_json": ("stop", WHOLE.replace('"', "'").replace(":", " =") + "}"),
    "content_filter": ("content_filter", ""),
    "overloaded": ("insufficient_system_resource", WHOLE[: len(WHOLE) // 2]),
    "empty_content": ("stop", ""),
    "written": ("stop", ""),
    "schema_ignored": ("stop", f"Here is my answer:\n```json\n{WHOLE}\n```\nLet me know!"),
}
LOST: dict[Delivery, tuple[type[Exception], type[Exception], int]] = {
    "disconnect": (openai.APITimeoutError, aiohttp.ServerDisconnectedError, 0),
    "reset": (openai.APITimeoutError, aiohttp.ClientOSError, 0),
    "disconnect_billed": (openai.APITimeoutError, aiohttp.ServerDisconnectedError, 1),
    "disconnect_midway": (openai.APIConnectionError, aiohttp.ClientPayloadError, 1),
}


@pytest.fixture(scope="module")
def running() -> Iterator[teacher.TeacherServer]:
    with teacher.serve(frames=[FRAME]) as server:
        yield server


@pytest.fixture
def server(running: teacher.TeacherServer) -> teacher.TeacherServer:
    running.recover()
    running.reset_counts()
    return running


def refused(server: teacher.TeacherServer, **more: Any) -> openai.APIStatusError:
    """What the client raises for a request that is refused."""
    with pytest.raises(openai.APIStatusError) as caught:
        ask(server, **more)
    return caught.value


def transport_error(error: BaseException) -> BaseException | None:
    """What aiohttp raised: the client's error came of its transport's, and that of this one."""
    assert error.__cause__ is not None
    return error.__cause__.__cause__


def test_every_fault_has_its_test() -> None:
    assert set(REFUSALS) == set(get_args(Refusal))
    assert {*CHANGES, "empty_choices", "no_usage"} == set(get_args(Change))
    assert {*LOST, "broken_body", "html_page", "drip", "blank_lines"} == set(get_args(Delivery))


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_refusal_has_the_status_and_code_of_real_services(
    server: teacher.TeacherServer, kind: Refusal
) -> None:
    server.fail(kind)
    error = refused(server, response_format=SCHEMA)
    assert (type(error), error.status_code, error.code) == REFUSALS[kind]
    assert "retry-after" not in error.response.headers
    assert server.totals().billed == 0
    assert server.totals().statuses == {str(error.status_code): 1}


def test_a_format_is_rejected_with_a_given_status_code_and_message(server: teacher.TeacherServer) -> None:
    server.fail("format_rejected", status=422, code="odd", content="no grammar", formats=("json_object",))
    assert content(server, response_format=SCHEMA) == WHOLE
    error = refused(server, response_format={"type": "json_object"})
    assert (error.status_code, error.code, "no grammar" in error.message) == (422, "odd", True)


def test_what_is_written_may_be_given(server: teacher.TeacherServer) -> None:
    server.fail("written", content="Yes.", finish_reason="MAX_TOKENS")
    choice = ask(server).choices[0]
    assert (choice.message.content, choice.finish_reason) == ("Yes.", "MAX_TOKENS")


def test_a_refusal_may_say_when_to_come_again(server: teacher.TeacherServer) -> None:
    server.fail("unavailable", retry_after="7")
    assert refused(server).response.headers["retry-after"] == "7"


@pytest.mark.parametrize("kind", ["no_schema", "schema_unavailable", "no_response_format", "schema_ignored"])
def test_a_fault_of_the_response_format_hits_only_who_asks_for_it(
    server: teacher.TeacherServer, kind: FaultKind
) -> None:
    server.fail(kind)
    assert content(server) == WHOLE
    if kind in ("no_schema", "schema_unavailable"):
        assert content(server, response_format={"type": "json_object"}) == WHOLE


@pytest.mark.parametrize("kind", CHANGES)
def test_a_changed_answer_is_a_whole_reply_and_billed(server: teacher.TeacherServer, kind: Change) -> None:
    server.fail(kind)
    choice = ask(server, response_format=SCHEMA).choices[0]
    assert (choice.finish_reason, choice.message.content) == CHANGES[kind]
    assert server.totals().billed == server.totals().answered == 1


def test_a_reply_may_hold_no_choice(server: teacher.TeacherServer) -> None:
    server.fail("empty_choices")
    reply = ask(server)
    assert reply.choices == []
    assert reply.usage is not None
    assert server.totals().billed == 1


def test_a_reply_may_say_nothing_of_its_tokens(server: teacher.TeacherServer) -> None:
    server.fail("no_usage")
    reply = ask(server)
    assert reply.usage is None
    assert reply.choices[0].message.content == WHOLE
    assert server.totals().prompt_tokens > 0


@pytest.mark.parametrize("kind", LOST)
def test_a_lost_connection_is_an_error_and_billed_by_when(
    server: teacher.TeacherServer, kind: Delivery
) -> None:
    expected, cause, billed = LOST[kind]
    server.fail(kind, first=1)
    with pytest.raises(openai.APIConnectionError) as caught:
        ask(server)
    assert type(caught.value) is expected
    # The client's own transport takes a lost connection for one that was never made.
    assert isinstance(transport_error(caught.value), cause)
    totals = server.totals()
    assert (totals.received, totals.answered, totals.billed) == (1, 0, billed)
    assert totals.statuses == {"disconnected": 1}
    assert content(server) == WHOLE


def test_a_body_that_is_no_json_is_not_an_error_of_the_client(server: teacher.TeacherServer) -> None:
    server.fail("broken_body")
    with pytest.raises(json.JSONDecodeError):
        ask(server)
    assert server.totals().billed == 1


def test_a_page_with_status_200_is_given_as_text(server: teacher.TeacherServer) -> None:
    server.fail("html_page")
    [found] = ask_all(server, PRIZE)
    assert isinstance(found, str)
    assert found.startswith("<html>")


@pytest.mark.parametrize("kind", ["drip", "blank_lines"])
def test_a_slow_body_outlives_the_client_s_timeout(server: teacher.TeacherServer, kind: FaultKind) -> None:
    server.fail(kind, seconds=1.2)
    began = time.monotonic()
    assert content(server, timeout=0.5) == WHOLE, "the timeout is for each piece"
    assert time.monotonic() - began > 1.1


def test_silence_is_a_timeout(server: teacher.TeacherServer) -> None:
    server.delay(1.0)
    [error] = ask_all(server, PRIZE, timeout=0.2)
    assert type(error) is openai.APITimeoutError
    assert isinstance(transport_error(error), aiohttp.SocketTimeoutError)


def test_no_server_looks_like_a_timeout_too() -> None:
    with teacher.serve() as server:
        pass
    [error] = ask_all(server, PRIZE)
    assert type(error) is openai.APITimeoutError
    assert isinstance(transport_error(error), aiohttp.ClientConnectorError)


def test_a_rate_hits_the_same_texts_in_any_order(server: teacher.TeacherServer) -> None:
    server.fail("server_error", rate=0.3, seed=5)
    texts = [f"text {i}" for i in range(200)]
    failed = [isinstance(e, openai.InternalServerError) for e in ask_all(server, *texts)]
    server.reset_counts()
    again = [isinstance(e, openai.InternalServerError) for e in ask_all(server, *reversed(texts))]
    assert failed == again[::-1]
    assert 35 <= sum(failed) <= 85


def test_the_first_fault_that_hits_counts_and_ends_where_told(server: teacher.TeacherServer) -> None:
    server.fail("no_quota", ids=["another"])
    server.fail("server_error", first=1)
    assert refused(server).status_code == 500
    server.fail("unavailable", first=1)
    assert refused(server).status_code == 503, "what was told later forgets no hit"
    assert content(server) == WHOLE


@pytest.mark.parametrize("form", ["seconds", "milliseconds", "date", "none"])
def test_a_request_limit_says_when_to_come_again(server: teacher.TeacherServer, form: Any) -> None:
    server.limit(requests_per_minute=2, burst_s=30, retry_after=form)
    ask(server)
    headers = refused(server).response.headers
    assert headers["x-ratelimit-limit-requests"] == "2"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-ratelimit-reset-requests"].endswith("s")
    assert ("retry-after-ms" in headers) == (form == "milliseconds")
    if form == "date":
        at = email.utils.parsedate_to_datetime(headers["retry-after"]).timestamp()
        assert 20 < at - time.time() <= 31
    else:
        assert headers.get("retry-after") == (None if form == "none" else "30")


def test_a_bucket_fills_with_time(server: teacher.TeacherServer) -> None:
    server.limit(requests_per_minute=120, burst_s=0.5)
    ask(server)
    wait = refused(server).response.headers["retry-after"]
    time.sleep(0.6)
    ask(server)
    assert wait == "1"
    assert server.totals().statuses == {"200": 2, "429": 1}


def test_a_token_limit_counts_prompt_and_completion(server: teacher.TeacherServer) -> None:
    usage = ask(server).usage
    assert usage is not None
    server.limit(tokens_per_minute=2 * usage.total_tokens + 1)
    ask(server)
    ask(server)
    error = refused(server)
    assert "on tokens per min" in error.message
    assert error.response.headers["x-ratelimit-limit-tokens"] == str(2 * usage.total_tokens + 1)


def test_a_hidden_limit_says_nothing(server: teacher.TeacherServer) -> None:
    server.limit(requests_per_minute=1, burst_s=1, hidden=True)
    ask(server)
    headers = refused(server).response.headers
    assert [n for n in headers if n.lower().startswith(("x-ratelimit", "retry"))] == []


def test_a_queue_lets_wait_without_a_word(server: teacher.TeacherServer) -> None:
    server.delay(0.2)
    server.queue(2)
    began = time.monotonic()
    replies = ask_all(server, *(f"text {i}" for i in range(6)))
    assert not any(isinstance(r, BaseException) for r in replies)
    assert time.monotonic() - began > 0.58
    assert server.totals().most_in_flight == 6


@pytest.mark.parametrize(("tail", "spread"), [("lognormal", 1.0), ("pareto", 1.5)])
def test_a_tail_is_heavy(server: teacher.TeacherServer, tail: Any, spread: float) -> None:
    server.delay(0.02, tail=tail, spread=spread, seed=1)
    server.queue(1)
    began = time.monotonic()
    ask_all(server, *(f"text {i}" for i in range(30)))
    assert time.monotonic() - began > 30 * 0.02 * 1.2


def test_durations_are_written_as_openai_does() -> None:
    assert [duration(s) for s in (0.0121, 1.5, 360, 90.25)] == ["13ms", "1.5s", "6m0s", "1m30.25s"]
