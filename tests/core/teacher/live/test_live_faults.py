"""Every fault of the test endpoint: temporary ones lose nothing, permanent ones stop the run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import pytest

from core.errors import BudgetSpent, TeacherError, TeacherRefused
from core.teacher.live import LiveTeacher
from tests.core.teacher.live.textbook import TEXTS, asked, examples, ledger
from tests.servers.teacher import TeacherServer
from tests.servers.teacher_answers import invented
from tests.servers.teacher_orders import FaultKind

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    "kind",
    [
        "server_error",
        "bad_gateway",
        "unavailable",
        "rate_limited",
        "disconnect",
        "reset",
        "disconnect_billed",
        "disconnect_midway",
        "broken_body",
        "html_page",
        "empty_choices",
        "overloaded",
    ],
)
def test_temporary_failure_loses_nothing(
    server: TeacherServer, live: Callable[..., LiveTeacher], kind: FaultKind
) -> None:
    asked(live(), examples(1))
    server.fail(kind, first=4)
    found = asked(live(), examples(12))
    assert [a.answers[0].raw_output for a in found] == [invented(text) for text in list(TEXTS.values())[:12]]


@pytest.mark.parametrize("kind", ["drip", "blank_lines"])
def test_slow_answer_is_awaited_up_to_the_total_timeout(
    server: TeacherServer, live: Callable[..., LiveTeacher], kind: FaultKind
) -> None:
    asked(live(), examples(1))
    server.fail(kind, seconds=0.6)
    patient = live(limits={"total_timeout_s": 5, "read_timeout_s": 0.5})
    assert all(a.answers for a in asked(patient, examples(4)))
    hasty = live(limits={"total_timeout_s": 0.3, "tries": 1})
    with pytest.raises(TeacherError, match=r"2 of 6 texts .* got no answer: .* no whole reply within 0\.3 s"):
        asked(hasty, examples(6))


def test_silence_ends_at_the_read_timeout(server: TeacherServer, live: Callable[..., LiveTeacher]) -> None:
    asked(live(), examples(1))
    server.delay(3.0)
    with pytest.raises(TeacherError, match=r"1 of 2 texts .* got no answer: .*Timeout"):
        asked(live(limits={"read_timeout_s": 0.3, "tries": 1}), examples(2))


@pytest.mark.parametrize(
    ("kind", "parsed", "finish"),
    [
        ("length", False, "length"),
        ("broken_json", False, "stop"),
        ("content_filter", False, "content_filter"),
        ("empty_content", False, "stop"),
        ("schema_ignored", True, "stop"),
    ],
)
def test_unusable_answer_is_stored_with_its_finish_reason_and_paid_once(
    server: TeacherServer, live: Callable[..., LiveTeacher], kind: FaultKind, parsed: bool, finish: str
) -> None:
    asked(live(), examples(1))
    server.fail(kind, ids=["t02"])
    found = asked(live(), examples(4))[2].answers
    assert [(a.parse_ok, a.finish_reason) for a in found] == [(parsed, finish)]
    received = server.totals().received
    assert asked(live(), examples(4))[2].answers == found
    assert server.totals().received == received


@pytest.mark.parametrize("form", ["seconds", "milliseconds", "date", "none"])
def test_every_form_of_retry_after_is_respected(
    server: TeacherServer, live: Callable[..., LiveTeacher], form: Literal["seconds", "none"]
) -> None:
    asked(live(), examples(1))
    server.limit(600, burst_s=0.5, retry_after=form)
    assert all(a.answers for a in asked(live(limits={"concurrency": 8, "tries": 20}), examples(20)))
    totals = server.totals()
    assert totals.answered == 20
    # Between 24 and 33 in 48 trials, by when the first refusals come.
    assert totals.received <= 40, "after the first refusals it waits until it may come again"


def test_undocumented_rate_limit_loses_nothing(
    server: TeacherServer, live: Callable[..., LiveTeacher]
) -> None:
    asked(live(), examples(1))
    server.limit(600, burst_s=0.5, hidden=True)
    assert all(a.answers for a in asked(live(limits={"concurrency": 8, "tries": 20}), examples(20)))


def test_silently_queueing_server_loses_nothing(
    server: TeacherServer, live: Callable[..., LiveTeacher]
) -> None:
    server.delay(0.05)
    server.queue(2)
    assert all(a.answers for a in asked(live(limits={"concurrency": 32}), examples()))
    assert server.totals().answered == 40


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("unauthorized", "check the key in TEST_TEACHER_KEY"),
        ("no_balance", "check the account's balance"),
        ("forbidden", "check the account's balance and what it may use"),
        ("no_quota", "check the account's balance"),
        ("unknown_model", "check teacher.model"),
    ],
)
def test_refusal_stops_within_20_requests_and_the_same_command_resumes(
    server: TeacherServer, live: Callable[..., LiveTeacher], kind: FaultKind, words: str
) -> None:
    asked(live(), examples(5))
    server.fail(kind)
    server.reset_counts()
    with pytest.raises(TeacherRefused, match=words):
        asked(live(), examples())
    assert server.totals().received <= 20
    server.recover()
    server.reset_counts()
    assert len(asked(live(), examples())) == 40
    assert server.totals().received == 35


@pytest.mark.parametrize(
    ("kind", "settled"),
    [("no_schema", "json_object"), ("schema_unavailable", "json_object"), ("no_response_format", "plain")],
)
def test_first_request_settles_the_output_format(
    server: TeacherServer, live: Callable[..., LiveTeacher], kind: FaultKind, settled: str
) -> None:
    server.fail(kind)
    teacher = live()
    assert all(a.answers[0].parse_ok for a in asked(teacher, examples(6)))
    assert teacher.facts().output_format == settled
    refused = server.totals().received - 6
    assert refused == (1 if settled == "json_object" else 2)
    asked(live(), examples(8))
    assert server.totals().received == 8 + refused, "it is written down"


def test_only_a_rejected_text_is_missing(server: TeacherServer, live: Callable[..., LiveTeacher]) -> None:
    asked(live(), examples(1))
    server.fail("prompt_filtered", ids=["t03"])
    teacher = live()
    found = asked(teacher, examples(6))
    assert [a.example.id for a in found if not a.answers] == ["t03"]
    assert sum(ledger(teacher).given_up.values()) == 1


def test_text_that_failed_in_all_tries_is_an_error_unless_allowed(
    server: TeacherServer, live: Callable[..., LiveTeacher]
) -> None:
    asked(live(), examples(1))
    server.fail("server_error", ids=["t03"])
    limits = {"tries": 1}
    with pytest.raises(TeacherError, match=r"1 of 6 texts .*HTTP 500.*set teacher\.max_missing to 1 or more"):
        asked(live(limits=limits), examples(6))
    found = asked(live(limits=limits, max_missing=1), examples(6))
    assert [a.example.id for a in found if not a.answers] == ["t03"]
    server.recover()
    before = server.totals().received
    assert all(a.answers for a in asked(live(limits=limits), examples(6)))
    assert server.totals().received == before + 1, "the same command asks only what is missing"


def test_max_missing_counts_rejected_texts(server: TeacherServer, live: Callable[..., LiveTeacher]) -> None:
    asked(live(), examples(1))
    server.fail("prompt_filtered", ids=["t03", "t05"])
    with pytest.raises(TeacherError, match=r"2 of 8 texts of train got no answer"):
        asked(live(max_missing=1), examples(8))
    assert sum(not a.answers for a in asked(live(max_missing=2), examples(8))) == 2


def test_run_stops_if_every_text_is_rejected(server: TeacherServer, live: Callable[..., LiveTeacher]) -> None:
    asked(live(), examples(1))
    server.fail("too_long")
    server.reset_counts()
    with pytest.raises(TeacherRefused, match=r"will not read any text \(HTTP 400.*teacher\.max_tokens"):
        asked(live(), examples())
    assert server.totals().received <= 20 + 8


def test_budget_stops_the_run_and_includes_earlier_spending(
    server: TeacherServer, live: Callable[..., LiveTeacher]
) -> None:
    rows = examples()
    with pytest.raises(BudgetSpent, match=r"raise teacher.budget.tokens and run the same command again"):
        asked(live(budget={"tokens": 12_000}), rows)
    totals = server.totals()
    assert 0 < totals.answered < 40
    assert totals.prompt_tokens + totals.completion_tokens <= 12_000 + 8 * 1_000
    with pytest.raises(BudgetSpent):
        asked(live(budget={"tokens": 12_000}), rows)
    assert server.totals().answered <= totals.answered + 1
    assert len(asked(live(), rows)) == 40
    assert server.totals().answered == 40


def test_unusable_endpoint_fails_at_the_first_request(
    server: TeacherServer, live: Callable[..., LiveTeacher]
) -> None:
    server.fail("html_page")
    with pytest.raises(TeacherError, match="did not answer the first request"):
        asked(live(limits={"tries": 1}), examples(5))
    assert server.totals().received == 1


def test_wrong_address_is_reported_after_a_few_tries(live: Callable[..., LiveTeacher]) -> None:
    started = time.monotonic()
    with pytest.raises(TeacherError, match=r"did not answer the first request \(no answer: Connection"):
        asked(live(base_url="http://127.0.0.1:9/v1", limits={}), examples(5))
    assert time.monotonic() - started < 5


def test_rejection_of_the_first_text_does_not_stop_the_run(
    server: TeacherServer, live: Callable[..., LiveTeacher]
) -> None:
    server.fail("prompt_filtered", ids=["t00", "t01"])
    teacher = live()
    found = asked(teacher, examples(6))
    assert [a.example.id for a in found if not a.answers] == ["t00", "t01"]
    assert sum(ledger(teacher).given_up.values()) == 2


def test_answers_in_flight_are_kept_when_the_key_is_refused(
    server: TeacherServer, live: Callable[..., LiveTeacher]
) -> None:
    asked(live(), examples(1))
    server.delay(0.5)
    server.fail("unauthorized", ids=["t20"])
    teacher = live(limits={"concurrency": 40})
    with pytest.raises(TeacherRefused):
        asked(teacher, examples())
    billed = server.totals().billed
    assert billed > 1
    server.recover()
    asked(live(), examples())
    assert server.totals().billed == 40, f"none of the {billed} is paid for twice"


def test_rejection_of_a_format_accepted_before_stops_the_run(
    server: TeacherServer, live: Callable[..., LiveTeacher]
) -> None:
    asked(live(), examples(1))
    server.fail("no_schema")
    with pytest.raises(TeacherError, match=r"refuses the output format json_schema, which it took before"):
        asked(live(), examples(6))


def test_key_in_a_server_message_is_not_logged(
    server: TeacherServer, live: Callable[..., LiveTeacher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_TEACHER_KEY", "Insufficient")
    server.fail("no_balance")
    with pytest.raises(TeacherRefused, match=r"\*\*\* Balance") as caught:
        asked(live(), examples(1))
    assert "Insufficient" not in str(caught.value)


def test_budget_without_token_counts_stops_after_one_answer_that_is_kept(
    server: TeacherServer, live: Callable[..., LiveTeacher]
) -> None:
    server.fail("no_usage")
    with pytest.raises(TeacherRefused, match=r"does not say how many tokens .* remove teacher\.budget"):
        asked(live(budget={"tokens": 1_000_000}), examples())
    assert server.totals().received == 1
    teacher = live()
    asked(teacher, examples(4))
    assert server.totals().received == 4
    assert ledger(teacher).unmetered_of_the_run == 4


def test_texts_that_failed_are_requested_once_more_at_the_end(
    server: TeacherServer, live: Callable[..., LiveTeacher]
) -> None:
    asked(live(), examples(1))
    server.fail("server_error", ids=["t03", "t05"], first=3)
    teacher = live(limits={"tries": 1})
    with pytest.raises(TeacherError, match=r"1 of 6 texts of train got no answer"):
        asked(teacher, examples(6))
    server.recover()
    server.fail("server_error", ids=["t07", "t08"], first=2)
    teacher = live(limits={"tries": 1})
    assert all(a.answers for a in asked(teacher, examples(12)))
    assert ledger(teacher).given_up == {}


def test_answers_without_counts_are_in_the_budget_of_the_next_start(
    server: TeacherServer, live: Callable[..., LiveTeacher]
) -> None:
    budget = {"budget": {"tokens": 9_000}}
    asked(live(**budget), examples(1))
    server.fail("no_usage")
    for _ in range(3):
        with pytest.raises(BudgetSpent):
            asked(live(**budget), examples())
    totals = server.totals()
    assert totals.prompt_tokens + totals.completion_tokens <= 9_000
    assert totals.answered > 5
