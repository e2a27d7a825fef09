"""Named moments of a run at which something has just become durable, or is about to.

They do nothing by themselves. A test sets `on_hit` and kills the process at one of them; see tests/killing.
"""

from __future__ import annotations

from collections.abc import Callable

LEASE_TAKEN = "lease taken"
TEACHER_ASKED = "teacher asked"
ANSWER_APPENDED = "answer appended"
"""Hit with a live teacher only, so not in ALL."""
FORWARD_SENT = "forward sent"
"""Hit with a remote engine only, between the two requests of a step, so not in ALL."""
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

on_hit: Callable[[str, str], None] | None = None
"""Called with the moment's name and what it is about."""


def hit(name: str, about: str = "") -> None:
    """Report one of the moments above."""
    if on_hit is not None:
        on_hit(name, about)
