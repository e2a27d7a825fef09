"""What a stage says between two units keeps the counts it had."""

from __future__ import annotations

from core.progress import Saying


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
