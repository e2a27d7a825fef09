"""How an answer ended follows from its finish reason, in every server's spelling."""

from __future__ import annotations

import pytest

from core.completions.reply import Ending, ending


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
def test_an_ending_is_read_in_every_spelling(reasons: tuple[str | None, ...], expected: Ending) -> None:
    assert [ending(reason) for reason in reasons] == [expected] * len(reasons)
