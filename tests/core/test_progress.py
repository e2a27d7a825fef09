"""What a stage says between two units keeps the counts it had."""

from __future__ import annotations

import logging

import pytest

from core.progress import LogProgress, Saying


class Heard:
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.all: list[tuple[int, int, str]] = []

    def update(self, done: int, total: int, note: str = "") -> None:
        self.all.append((done, total, note))


def test_words_between_two_units_come_with_the_counts_of_the_last() -> None:
    heard = Heard()
    progress = Saying(heard, 4, 9)
    progress.say("waiting for step 5")
    progress.update(5, 9, "loss 0.4")
    progress.say("waiting for step 6")
    assert heard.all == [(4, 9, "waiting for step 5"), (5, 9, "loss 0.4"), (5, 9, "waiting for step 6")]


def test_the_end_is_logged_once_and_a_wait_after_it_seldom(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    progress = LogProgress("export", every=60)
    for note in ("", "waiting for completions for 1 s", "waiting for completions for 2 s"):
        progress.update(24, 24, note)
    assert [r.getMessage() for r in caplog.records if r.name == "core.progress"] == ["export: 24/24 (100 %)"]
