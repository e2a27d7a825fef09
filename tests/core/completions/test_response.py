"""A reply is read as servers write it, and what holds no answer is an error that says so."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.completions.failures import CallError
from core.completions.response import read_reply
from core.cost import Usage


def body(message: Any, **more: Any) -> bytes:
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json.dumps({"model": "m-1", "choices": [choice], **more}).encode()


def test_a_whole_reply_is_read_with_all_that_the_server_said() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 8}}
    message = {"role": "assistant", "content": "yes", "reasoning_content": "I think"}
    came = read_reply(body(message, usage=usage), 1.5, {"x-request-id": "7"})
    assert (came.content, came.reasoning, came.finish_reason) == ("yes", "I think", "stop")
    assert (came.model, came.usage, came.seconds) == ("m-1", Usage(9, 4, 8), 1.5)


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 4, "prompt_cache_hit_tokens": 6}, Usage(9, 4, 6)),
        ({"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": None}, Usage(9, 4)),
        ({"prompt_tokens": 9, "completion_tokens": None}, Usage(9, 0)),
        ({"prompt_tokens": 9, "completion_tokens": 4, "prompt_cache_hit_tokens": 99}, Usage(99, 4, 99)),
        (None, None),
        ("many", None),
        ({"prompt_tokens": 0, "completion_tokens": 0}, None),
        ({"prompt_tokens": "9", "completion_tokens": "4"}, Usage(9, 4)),
        ({"prompt_tokens": -9, "completion_tokens": 4}, Usage(0, 4)),
        ({"prompt_tokens": 10**400, "completion_tokens": 4}, Usage(0, 4)),
        ({"prompt_tokens": float("inf"), "completion_tokens": 4}, Usage(0, 4)),
    ],
    ids=[
        "DeepSeek",
        "no details",
        "half",
        "more cached than asked",
        "none",
        "nonsense",
        "nothing",
        "text",
        "negative",
        "huge",
        "infinite",
    ],
)
def test_usage_is_read_in_every_dialect(usage: Any, read: Usage | None) -> None:
    assert read_reply(body({"content": "x"}, usage=usage), 1.0, {}).usage == read


@pytest.mark.parametrize(
    ("message", "content"),
    [
        ({"content": None}, ""),
        ({"content": [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]}, "one two"),
        ({"content": "half \ud83d of a pair"}, "half \ud83d of a pair"),
    ],
    ids=["null", "in parts", "half a surrogate pair"],
)
def test_content_is_read_in_the_forms_that_come(message: Any, content: str) -> None:
    assert read_reply(body(message), 1.0, {}).content == content


def test_thinking_is_read_under_its_other_name_too() -> None:
    assert read_reply(body({"content": "x", "reasoning": "hm"}), 1.0, {}).reasoning == "hm"
    assert read_reply(body({"content": "x", "reasoning_content": ""}), 1.0, {}).reasoning is None


@pytest.mark.parametrize(
    ("raw", "headers", "said"),
    [
        (
            b"<html>hello</html>",
            {"content-type": "text/html"},
            "an HTML page, not JSON; is base_url",
        ),
        (b'{"choices": [', {}, "the reply cannot be read"),
        (b"\xff\xfe", {}, "the reply cannot be read"),
        (b"[]", {}, "not a JSON object"),
        (b"{}", {}, "contains no choice"),
        (b'{"choices": []}', {}, "contains no choice"),
        (b'{"choices": [null]}', {}, "contains no choice"),
        (b'{"choices": [{"message": "hi"}]}', {}, "contains no choice"),
    ],
)
def test_what_holds_no_answer_says_so(raw: bytes, headers: dict[str, str], said: str) -> None:
    with pytest.raises(CallError, match=said):
        read_reply(raw, 1.0, headers)


def test_line_breaks_before_the_body_are_passed_over() -> None:
    assert read_reply(b"\n\n\n" + body({"content": "x"}), 1.0, {}).content == "x"


def test_a_reply_nested_without_end_is_one_that_cannot_be_read() -> None:
    with pytest.raises(CallError, match="the reply cannot be read"):
        read_reply(b"[" * 200_000, 1.0, {})


def test_an_error_in_a_reply_that_claims_success_is_told() -> None:
    with pytest.raises(CallError) as said:
        read_reply(b'{"error": {"message": "the model\\nis loading"}}', 1.0, {})
    assert (said.value.message, said.value.status) == ("the model is loading", 200)
