"""The two phases that leave checkpoints of a student in a run: learning from answers, and from rewards."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Phase:
    """Where a phase's files stand in the run's folder, and how its stages are told from the other's."""

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
