"""Counting the tokens that a server bills: trained, prefilled and sampled."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, and the requests for samples they went out with."""

    trained: int = 0
    prefilled: int = 0
    """Prompt tokens of samples and scores; what the server had in its cache is counted too."""
    sampled: int = 0
    requests: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.trained + other.trained,
            self.prefilled + other.prefilled,
            self.sampled + other.sampled,
            self.requests + other.requests,
        )


class Meter:
    """Adds up usage from any thread, and in the meter it is part of."""

    def __init__(self, whole: Meter | None = None) -> None:
        self._whole, self._lock, self._usage = whole, threading.Lock(), Usage()

    @property
    def usage(self) -> Usage:
        """Until now."""
        return self._usage

    def add(self, usage: Usage) -> None:
        with self._lock:
            self._usage += usage
        if self._whole is not None:
            self._whole.add(usage)
