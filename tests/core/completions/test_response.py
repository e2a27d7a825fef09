"""Replies, finish reasons and usage are read in the forms of all servers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.completions.chat import Ending, ending
from core.completions.client import TokenCounts, read_reply, read_usage
from core.completions.failures import CallError
from core.cost import Usage


def body(message: Any, **more: Any) -> bytes:
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json.dumps({"model": "m-1", "choices": [choice], **more}).encode()


def test_all_fields_of_a_reply_are_read() -> None:
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
def test_every_form_of_content_is_read(message: Any, content: str) -> None:
    assert read_reply(body(message), 1.0, {}).content == content


def test_reasoning_is_read_under_its_other_names() -> None:
    assert read_reply(body({"content": "x", "reasoning": "hm"}), 1.0, {}).reasoning == "hm"
    assert read_reply(body({"content": "x", "reasoning_content": ""}), 1.0, {}).reasoning is None


@pytest.mark.parametrize(
    ("raw", "headers", "message"),
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
def test_reply_without_an_answer_raises_with_the_reason(
    raw: bytes, headers: dict[str, str], message: str
) -> None:
    with pytest.raises(CallError, match=message):
        read_reply(raw, 1.0, headers)


def test_line_breaks_before_the_body_are_ignored() -> None:
    assert read_reply(b"\n\n\n" + body({"content": "x"}), 1.0, {}).content == "x"


def test_endlessly_nested_reply_cannot_be_read() -> None:
    with pytest.raises(CallError, match="the reply cannot be read"):
        read_reply(b"[" * 200_000, 1.0, {})


def test_error_in_a_reply_with_status_200_is_raised() -> None:
    with pytest.raises(CallError) as caught:
        read_reply(b'{"error": {"message": "the model\\nis loading"}}', 1.0, {})
    assert (caught.value.message, caught.value.status) == ("the model is loading", 200)


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        (
            ("stop", "STOP", "eos", "eos_token", "end_turn", "stop_sequence", "COMPLETE", "tool_calls"),
            "complete",
        ),
        (("FINISH_REASON_STOP", "REASON_STOP", "FinishReason.STOP"), "complete"),
        (
            ("length", "max_tokens", "MAX_TOKENS", "model_length", "model_context_window_exceeded"),
            "truncated",
        ),
        (("content_filter", "content_filter: RECITATION", "refusal", "SAFETY", "sensitive"), "filtered"),
        (("error", "ERROR", "abort", "insufficient_system_resource", "network_error"), "failed"),
        ((None, "", "null"), "unstated"),
        (("tired", "stopped by the operator", "length_of_day"), "unknown"),
    ],
)
def test_finish_reasons_are_read_in_every_spelling(reasons: tuple[str | None, ...], expected: Ending) -> None:
    assert [ending(reason) for reason in reasons] == [expected] * len(reasons)


DETAILS = "completion_tokens_details"
ANTHROPIC = {"input_tokens": 9, "output_tokens": 4, "cache_read_input_tokens": 100}
DEEPSEEK = {"prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36, "completion_tokens": 4}


def fields(prompt: Any = None, completion: Any = None, total: Any = None, reasoning: Any = None) -> Any:
    """A usage object that leaves out what is None."""
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}
    found = {name: value for name, value in counts.items() if value is not None}
    return found if reasoning is None else {**found, DETAILS: {"reasoning_tokens": reasoning}}


@pytest.mark.parametrize(
    ("found", "usage", "is_partial", "conflicts"),
    [
        (fields(200, 40, 2240, 2000), Usage(200, 2040), False, True),
        (fields(200, 40, 2240), Usage(200, 2040), False, True),
        (fields(200, 40, None, 2000), Usage(200, 2040), False, True),
        (fields(200, 40, 240, 2000), Usage(200, 2040), False, True),
        (fields(200, 2040, 2240, 2000), Usage(200, 2040), False, False),
        (fields(200, 2040, None, 2000), Usage(200, 2040), False, False),
        (fields(200, 40, 100), Usage(200, 40), False, True),
        (fields(None, 40, 240), Usage(200, 40), False, False),
        (fields(200, None, 240), Usage(200, 40), False, False),
        (fields(200, None, None, 30), Usage(200, 30), False, False),
        (fields(None, None, 240), Usage(0, 240), False, False),
        (fields(0, 40, 240), Usage(200, 40), False, True),
        (fields(200), Usage(200, 0), True, False),
        (fields(None, 40), Usage(0, 40), True, False),
        (fields(None, 40, 10), Usage(0, 40), True, False),
        (fields(200.2, "40", 240.2), Usage(201, 40), False, False),
        (fields(200, 40, "many"), Usage(200, 40), False, False),
        (fields(200, 40, -1, -5), Usage(200, 40), False, False),
        (fields(200, 40, True), Usage(200, 40), False, False),
        (fields(200, 40, {"n": 1}), Usage(200, 40), False, False),
        (ANTHROPIC, Usage(109, 4, 100), False, False),
        (DEEPSEEK, Usage(100, 4, 64), False, False),
        (fields(200, 40, 240) | {"reasoning_tokens": 2000}, Usage(200, 2040), False, True),
    ],
)  # fmt: skip
def test_larger_of_contradictory_counts_is_used(
    found: Any, usage: Usage, is_partial: bool, conflicts: bool
) -> None:
    counted = read_usage(found)
    assert counted is not None
    assert (counted.usage, counted.is_partial, bool(counted.conflict)) == (usage, is_partial, conflicts)


@pytest.mark.parametrize("found", [None, [], "9", {}, fields(0, 0, 0), fields(-1, None, float("nan"))])
def test_usage_without_counts_is_none(found: Any) -> None:
    assert read_usage(found) is None


COUNT = st.one_of(
    st.none(),
    st.integers(-10, 10_000),
    st.floats(allow_nan=True),
    st.integers(0, 10_000).map(str),
    st.sampled_from(["", "many", True, [], {}]),
)


def number(value: Any) -> float:
    """The count of a field; 0 if it is not a count."""
    if isinstance(value, str) and value.isdecimal():
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1_000_000_000:
        return 0.0
    return float(value)


@given(prompt=COUNT, completion=COUNT, total=COUNT, reasoning=COUNT, cached=COUNT)
def test_counted_usage_is_at_least_what_any_field_implies(
    prompt: Any, completion: Any, total: Any, reasoning: Any, cached: Any
) -> None:
    found = fields(prompt, completion, total, reasoning) | {
        "prompt_tokens_details": {"cached_tokens": cached}
    }
    counted = read_usage(found) or TokenCounts(Usage(0, 0))
    usage = counted.usage
    assert usage.total >= number(total)
    assert usage.total >= number(prompt) + number(completion)
    assert usage.completion >= max(number(completion), number(reasoning))
    assert usage.completion >= number(total) - usage.prompt
    assert usage.prompt >= usage.cached >= number(cached)


@given(prompt=st.integers(1, 10_000), visible=st.integers(0, 10_000), reasoning=st.integers(0, 10_000))
def test_all_dialects_of_one_reply_count_the_same(prompt: int, visible: int, reasoning: int) -> None:
    whole = visible + reasoning
    dialects = [
        fields(prompt, whole, prompt + whole, reasoning),
        fields(prompt, visible, prompt + whole, reasoning),
        fields(prompt, visible, prompt + whole),
        fields(prompt, whole, prompt + whole),
        fields(None, whole, prompt + whole, reasoning),
    ]
    found = [read_usage(dialect) for dialect in dialects]
    assert [counted and counted.usage for counted in found] == [Usage(prompt, whole)] * len(dialects)
