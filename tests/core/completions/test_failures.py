"""What a failure means follows from its status and words."""

from __future__ import annotations

import pytest

from core.completions.failures import CallError, Kind, refusal
from core.config.endpoint import Endpoint


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
def test_a_failure_is_judged_by_status_and_words(
    status: int | None, code: str | None, message: str, kind: Kind
) -> None:
    assert classify(status, code, message).kind == kind


def test_the_servers_words_are_kept_and_short() -> None:
    assert classify(402, None, "Insufficient\n Balance").words == "HTTP 402: Insufficient Balance"
    assert classify(None).words == "no answer"
    assert len(classify(500, None, "x" * 9999).words) == 500


@pytest.mark.parametrize(
    ("status", "said", "kind"),
    [(400, True, "retry"), (503, False, "bad_request"), (401, True, "refused"), (429, None, "retry")],
)
def test_x_should_retry_decides_where_it_may(status: int, said: bool | None, kind: Kind) -> None:
    assert classify(status, should_retry=said).kind == kind


def test_only_too_much_asking_slows_down() -> None:
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
def test_a_format_may_be_the_cause_of_an_unfamiliar_refusal(
    status: int, code: str | None, message: str
) -> None:
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
def test_key_account_rate_and_text_are_never_taken_for_the_format(
    status: int | None, code: str | None, message: str
) -> None:
    assert not classify(status, code, message).maybe_format


@pytest.mark.parametrize(
    "message", ["You exceeded your current quota, please check your plan and billing details.", ""]
)
def test_a_429_without_a_code_of_the_account_is_a_rate_limit_whatever_it_says(message: str) -> None:
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
def test_a_refusal_names_the_setting_to_fix(verdict: CallError, remedy: str) -> None:
    said = str(refusal(verdict, Endpoint(base_url="https://here", model="a-model", api_key_env="MY_KEY")))
    assert remedy in said
    assert "run the same command again" in said
