"""Counting the tokens that a server bills: trained, prefilled and sampled."""

from __future__ import annotations

import threading

from core.engines.base import Usage


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
