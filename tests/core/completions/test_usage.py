"""The ledger is never below what a reply's usage fields imply, and never counts reasoning twice."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.completions.response import TokenCounts, read_usage
from core.cost import Usage

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
def test_the_larger_of_what_the_fields_imply_is_counted(
    found: Any, usage: Usage, is_partial: bool, conflicts: bool
) -> None:
    counted = read_usage(found)
    assert counted is not None
    assert (counted.usage, counted.is_partial, bool(counted.conflict)) == (usage, is_partial, conflicts)


@pytest.mark.parametrize("found", [None, [], "9", {}, fields(0, 0, 0), fields(-1, None, float("nan"))])
def test_a_usage_that_counts_nothing_is_none(found: Any) -> None:
    assert read_usage(found) is None


COUNT = st.one_of(
    st.none(),
    st.integers(-10, 10_000),
    st.floats(allow_nan=True),
    st.integers(0, 10_000).map(str),
    st.sampled_from(["", "many", True, [], {}]),
)


def number(value: Any) -> float:
    """What a field counts for certain; 0 where it is no count."""
    if isinstance(value, str) and value.isdecimal():
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1_000_000_000:
        return 0.0
    return float(value)


@given(prompt=COUNT, completion=COUNT, total=COUNT, reasoning=COUNT, cached=COUNT)
def test_no_field_implies_more_than_is_counted(
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
def test_each_dialect_of_one_reply_counts_the_same(prompt: int, visible: int, reasoning: int) -> None:
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
