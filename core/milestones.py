"""Named moments of a run at which something has just become safe, or is about to.

They do nothing by themselves. Whoever proves what survives a crash sets `on_passing` and ends the
process at one of them; see tests/killing.
"""

from __future__ import annotations

from collections.abc import Callable

LEASE_TAKEN = "lease taken"
TEACHER_ASKED = "teacher asked"
ANSWER_APPENDED = "answer appended"
"""Passed with a live teacher only, so not in ALL; killed at in tests/killing/live.py."""
FORWARD_SENT = "forward sent"
"""Passed with a remote engine only, between a step's two requests, so not in ALL either."""
STEP_SUBMITTED = "step submitted"
STATE_SAVED = "state saved"
FILES_WRITTEN = "files written"
MANIFEST_WRITTEN = "manifest written"
VIEW_FILLED = "view filled"
RECORD_WRITTEN = "record written"
RUN_POINTER_SWAPPED = "run pointer swapped"
LATEST_POINTER_SWAPPED = "latest pointer swapped"

ALL = (
    LEASE_TAKEN,
    TEACHER_ASKED,
    STEP_SUBMITTED,
    STATE_SAVED,
    FILES_WRITTEN,
    MANIFEST_WRITTEN,
    VIEW_FILLED,
    RECORD_WRITTEN,
    RUN_POINTER_SWAPPED,
    LATEST_POINTER_SWAPPED,
)

on_passing: Callable[[str, str], None] | None = None
"""Called with a moment's name and what it is about."""


def passed(name: str, about: str = "") -> None:
    """Say that the run has come to one of the moments above."""
    if on_passing is not None:
        on_passing(name, about)
