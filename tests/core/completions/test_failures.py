"""Failures are classified by status and message; waits and limits are read from headers."""

from __future__ import annotations

import datetime as dt

import pytest

from core.completions.failures import (
    CallError,
    Kind,
    read_rate_limit,
    refusal,
    retry_after,
    seconds,
    should_retry,
)
from core.config import Endpoint


def classify(
    status: int | None, code: str | None = None, message: str = "", should_retry: bool | None = None
) -> CallError:
    headers = {} if should_retry is None else {"x-should-retry": str(should_retry).lower()}
    return CallError(message, status, code or "", headers)


@pytest.mark.parametrize(
    ("status", "code", "message", "kind"),
    [
        (None, "ConnectError", "connection reset", "retry"),
        (408, None, "", "retry"),
        (409, None, "", "retry"),
        (429, "rate_limit_exceeded", "Rate limit reached for gpt-4o", "retry"),
        (500, None, "", "retry"),
        (503, None, "The server is overloaded", "retry"),
        (529, None, "overloaded_error", "retry"),
        (401, "invalid_api_key", "Incorrect API key provided", "refused"),
        (402, None, "Insufficient Balance", "refused"),
        (403, None, "Country not supported", "refused"),
        (404, "model_not_found", "The model `x` does not exist", "refused"),
        (429, "insufficient_quota", "You exceeded your current quota", "refused"),
        (400, "invalid_request_error", "Model Not Exist", "refused"),
        (400, None, "API key not valid. Please pass a valid API key.", "refused"),
        (400, None, "Your credit balance is too low", "refused"),
        (400, None, "maximum context length is 8192 tokens", "bad_request"),
        (400, "content_filter", "The prompt was filtered", "bad_request"),
        (403, None, "Your input was flagged by moderation", "bad_request"),
        (413, None, "too large", "bad_request"),
        (422, None, "messages: field required", "bad_request"),
        (400, None, "'response_format' of type 'json_schema' is not supported", "format_unsupported"),
        (422, None, "This response_format type is unavailable now", "format_unsupported"),
    ],
)  # fmt: skip
def test_failure_is_classified_by_status_and_message(
    status: int | None, code: str | None, message: str, kind: Kind
) -> None:
    assert classify(status, code, message).kind == kind


def test_server_message_is_kept_and_shortened() -> None:
    assert classify(402, None, "Insufficient\n Balance").words == "HTTP 402: Insufficient Balance"
    assert classify(None).words == "no answer"
    assert len(classify(500, None, "x" * 9999).words) == 500


@pytest.mark.parametrize(
    ("status", "header", "kind"),
    [(400, True, "retry"), (503, False, "bad_request"), (401, True, "refused"), (429, None, "retry")],
)
def test_x_should_retry_overrides_retry_and_bad_request_only(
    status: int, header: bool | None, kind: Kind
) -> None:
    assert classify(status, should_retry=header).kind == kind


def test_only_overload_slows_down() -> None:
    assert [s for s in (None, 400, 408, 429, 500, 503, 529) if classify(s).slow_down] == [429, 503, 529]
    assert not classify(429, "insufficient_quota").slow_down


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (400, "400 BadRequestError", "enum values must be strings"),
        (400, None, "failed to parse grammar"),
        (404, "404", "no endpoint supports the parameters of this request"),
        (404, "model_not_found", ""),
        (422, None, "Extra inputs are not permitted"),
        (500, "internal_error", "xgrammar: integer enum"),
        (501, None, "not implemented"),
        (400, None, "'response_format' of type 'json_schema' is not supported"),
    ],
)
def test_unfamiliar_rejection_may_be_due_to_the_format(status: int, code: str | None, message: str) -> None:
    assert classify(status, code, message).maybe_format


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (400, "API_KEY_INVALID", "json_schema"),
        (400, "budget_exceeded", "json_schema"),
        (400, "content_filter", ""),
        (400, "context_length_exceeded", ""),
        (401, None, "json_schema"),
        (402, None, "json_schema"),
        (403, None, "json_schema"),
        (429, None, "json_schema"),
        (429, "insufficient_quota", ""),
        (500, "insufficient_quota", ""),
        (500, "rate_limit_exceeded", ""),
        (502, None, ""),
        (503, None, ""),
        (None, None, "json_schema"),
    ],
)
def test_failures_of_key_account_rate_and_text_are_never_due_to_the_format(
    status: int | None, code: str | None, message: str
) -> None:
    assert not classify(status, code, message).maybe_format


@pytest.mark.parametrize(
    "message", ["You exceeded your current quota, please check your plan and billing details.", ""]
)
def test_429_without_an_account_code_is_a_rate_limit_whatever_its_message(message: str) -> None:
    verdict = classify(429, "RESOURCE_EXHAUSTED", message)
    assert (verdict.kind, verdict.slow_down) == ("retry", True)


@pytest.mark.parametrize(
    ("verdict", "remedy"),
    [
        (classify(401, None, "no"), "check the key in MY_KEY"),
        (classify(404, None, "no such model"), "check teacher.model and teacher.base_url"),
        (classify(402, None, "Insufficient Balance"), "check the account's balance"),
    ],
)
def test_refusal_names_the_setting_to_fix(verdict: CallError, remedy: str) -> None:
    message = str(refusal(verdict, Endpoint(base_url="https://here", model="a-model", api_key_env="MY_KEY")))
    assert remedy in message
    assert "run the same command again" in message


NOW = dt.datetime(2026, 3, 1, 12, 0, 0, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, None),
        ({"Retry-After": "3"}, 3),
        ({"retry-after": "0"}, 0),
        ({"retry-after-ms": "250", "Retry-After": "3"}, 0.25),
        ({"Retry-After": "Sun, 01 Mar 2026 12:00:20 GMT"}, 20),
        ({"Retry-After": "Sun, 01 Mar 2026 11:00:00 GMT"}, 0),
        # The server's clock is an hour behind ours.
        ({"Retry-After": "Sun, 01 Mar 2026 11:00:20 GMT", "Date": "Sun, 01 Mar 2026 11:00:00 GMT"}, 20),
        ({"Retry-After": "later"}, None),
        ({"Retry-After": "-1"}, None),
    ],
)
def test_every_form_of_retry_after_is_read(headers: dict[str, str], wait: float | None) -> None:
    assert retry_after(headers, NOW) == wait


@pytest.mark.parametrize(
    ("value", "expected"), [("true", True), ("False", False), ("", None), ("maybe", None)]
)
def test_x_should_retry_header_is_read(value: str, expected: bool | None) -> None:
    assert should_retry({"X-Should-Retry": value}) is expected
    assert should_retry({}) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1s", 1), ("6m0s", 360), ("120ms", 0.12), ("1h2m3.5s", 3723.5), ("7s", 7), ("2m59.56s", 179.56),
        ("30", 30), ("0", 0), ("0.25", 0.25), ("", None), ("soon", None), ("1s or so", None), ("-1", None),
        ("nan", None),
    ],
)  # fmt: skip
def test_durations_are_read_in_the_forms_that_servers_use(text: str, value: float | None) -> None:
    assert seconds(text) == (None if value is None else pytest.approx(value))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {
            "x-ratelimit-limit-tokens": "-1",
            "x-ratelimit-remaining-tokens": "-1",
            "x-ratelimit-reset-tokens": "0",
        },
        {
            "x-ratelimit-limit-tokens": "0",
            "x-ratelimit-remaining-tokens": "0",
            "x-ratelimit-reset-tokens": "1s",
        },
        {"x-ratelimit-remaining-tokens": "many", "x-ratelimit-reset-tokens": "1s"},
    ],
)
def test_headers_that_mean_no_limit_are_ignored(headers: dict[str, str]) -> None:
    assert read_rate_limit(headers, "tokens") is None
