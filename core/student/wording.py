"""Reading a student's own answer back: the inverse of the target's wording."""

from __future__ import annotations

import re
from dataclasses import dataclass

from core.prompts import TargetWording


@dataclass(frozen=True, slots=True)
class Said:
    """What an answer says; None for a part that it does not hold whole."""

    label: int | None
    reasoning: str | None


def read_answer(raw: str, wording: TargetWording, target: str) -> Said:
    """Label and reasoning of a generated answer.

    A label counts only where the target puts it: at the very beginning, or after the closed
    reasoning; a label block inside a reasoning is not an answer.
    """
    reason = re.compile(f"{re.escape(wording.reason_open)}(.*?){re.escape(wording.reason_close)}", re.DOTALL)
    label = re.compile(rf"\s*{re.escape(wording.label_open)}\s*([01])\s*{re.escape(wording.label_close)}")
    found_reason = reason.search(raw)
    reasoning = found_reason.group(1).strip() if found_reason else None
    if target != "reason_first":
        found = label.match(raw)
    elif found_reason:
        found = label.match(raw, found_reason.end())
    else:
        found = None
    return Said(int(found.group(1)) if found else None, reasoning)
