"""Spending is computed from the stored replies and is never underestimated."""

from __future__ import annotations

import json
import tempfile
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from core.completions.chat import Reply
from core.completions.client import ServerReply, read_reply
from core.completions.journal import Journal
from core.cost import Price, Usage, cost
from core.store import Store
from tests.core.completions.replying import append, reply

PRICE = Price(input=3.0, cached_input=0.5, output=15.0)
RESERVED = 4096

tokens = st.one_of(st.integers(0, 5000), st.none())
usages = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {},
        optional={
            "prompt_tokens": tokens,
            "completion_tokens": tokens,
            "total_tokens": tokens,
            "prompt_tokens_details": st.fixed_dictionaries({"cached_tokens": st.integers(0, 5000)}),
            "completion_tokens_details": st.fixed_dictionaries({"reasoning_tokens": st.integers(0, 5000)}),
        },
    ),
)


def came(usage: dict[str, Any] | None) -> ServerReply:
    """A server's reply as the client reads it."""
    message = {"role": "assistant", "content": "{}"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = {"model": "m", "choices": [choice], "usage": usage}
    return read_reply(json.dumps(body).encode(), 0.1, {})


def stored(number: int, run: str, answer: ServerReply) -> Reply:
    """The reply as the sender stores it."""
    usage = answer.usage
    return reply(number, run=run, second=number % 60)._replace(
        prompt_tokens=usage.prompt if usage else None,
        cached_tokens=usage.cached if usage else None,
        completion_tokens=usage.completion if usage else None,
        reserved_prompt_tokens=None if usage else RESERVED,
        reserved_completion_tokens=None if usage else RESERVED,
    )


def implied(usage: dict[str, Any] | None) -> int:
    """The tokens that the counts of prompt and completion show for certain."""
    prompt = (usage or {}).get("prompt_tokens")
    return (prompt + ((usage or {}).get("completion_tokens") or 0)) if prompt else 0


@settings(max_examples=20)
@given(given_usages=st.lists(st.tuples(usages, st.sampled_from("ab")), max_size=12))
def test_spending_is_computed_from_stored_replies(
    given_usages: list[tuple[dict[str, Any] | None, str]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(folder)
        answers = [(came(usage), usage, run) for usage, run in given_usages]
        with Journal.open(store, "a") as a, Journal.open(store, "b") as b:
            journals = {"a": a, "b": b}
            for number, (answer, _, run) in enumerate(answers):
                append(journals[run], stored(number, run, answer))
            before = {run: journal.spent(run).budgeted for run, journal in journals.items()}
        for run in "ab":
            own = [(answer.usage, usage) for answer, usage, of in answers if of == run]
            metered = [usage for usage, _ in own if usage is not None]
            unmetered = len(own) - len(metered)
            assert before[run].total == sum(u.total for u in metered) + unmetered * 2 * RESERVED
            assert before[run].total >= sum(implied(usage) for _, usage in own)
            assert cost(before[run], PRICE) >= sum(cost(u, PRICE) for u in metered) - 1e-9
            with Journal.open(store, run) as journal:
                assert journal.spent(run).budgeted == before[run], "the same after another start"


def test_version_01_line_without_counts_counts_nothing() -> None:
    with tempfile.TemporaryDirectory() as folder, Journal.open(Store.open(folder), "r") as journal:
        append(journal, reply(0, tokens=None))
        append(journal, reply(1, tokens=10))
        assert journal.spent("r").budgeted == Usage(10, 2, 1)
        assert journal.spent("r").unmetered == 1
