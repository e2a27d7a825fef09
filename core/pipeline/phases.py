"""The two phases that train a student: learning from answers, and from rewards."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Phase:
    """The folder of a phase in the run's folder, and what distinguishes its stages in records and logs."""

    folder: str
    slot: str = ""
    """Begins the second part of its stages' slots: evaluate/rl/10."""
    said: str = ""


STUDENT = Phase("student_phase")
RL = Phase("rl_phase", "rl/", "RL ")

_OWN = frozenset({"reinforce", "reward"})


def is_rl(slot: str) -> bool:
    """Whether a slot of a run's record is of the RL phase: rl, or what it measured the start as, rl-start."""
    stage, _, rest = slot.partition("/")
    return stage in _OWN or rest.partition("/")[0] in ("rl", "rl-start")
