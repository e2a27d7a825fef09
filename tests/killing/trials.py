"""One trial: a run that is killed, perhaps several times, and the same command until it ends."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from core import durable
from tests.killing import judging
from tests.killing.children import (
    TO_THE_END,
    ChildError,
    Ended,
    Moment,
    Passed,
    ask_child,
    run_in_child,
)
from tests.killing.direct import run


@dataclass(frozen=True, slots=True)
class Kill:
    """When to kill: at a failpoint, after some seconds, or not at all."""

    moment: Moment = TO_THE_END
    after: float | None = None

    def __str__(self) -> str:
        if self.after is not None:
            return f"after {self.after:.2f} s"
        which = self.moment.about or f"#{self.moment.count}"
        return f"{self.moment.name} {which}" if self.moment.name else "never"


@dataclass(frozen=True, slots=True)
class Place:
    """A config and a root to run it under."""

    config: Path
    root: str
    changes: tuple[str, ...] = ()
    """Overrides of the config."""

    def work(self) -> None:
        """The command."""
        run(self.config, [f"run.root={self.root}", *self.changes])

    def go(self, kill: Kill) -> Ended:
        """Run it in a child."""
        with tempfile.TemporaryDirectory() as folder:
            return run_in_child(self.work, Path(folder) / "trace", kill.moment, kill.after)

    def remains(self) -> dict[str, str]:
        """What the finished run left."""
        found: dict[str, str] = ask_child(lambda: judging.remains(self.root, self.config.stem))
        return found


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a trial; `differing` names what is unlike an undisturbed run's."""

    where: str
    kills: int
    """How many of the kills hit before the run ended."""
    answers_twice: int = 0
    steps_twice: int = 0
    differing: Sequence[str] = ()
    failed: str = ""


@dataclass(slots=True)
class Reference:
    """An undisturbed run: what it leaves, how long it takes, which failpoints it passes."""

    place: Place
    remains: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    passed: tuple[Passed, ...] = ()

    @classmethod
    def of(cls, place: Place) -> Reference:
        """Run it."""
        ended = place.go(Kill())
        assert ended.code == 0, "an undisturbed run failed; see its traceback"
        return cls(place, place.remains(), ended.passed[-1].after, ended.passed)

    def moments(self, each: int) -> list[Moment]:
        """Every failpoint, at `each` of its passings: the middle one, or spread from first to last."""
        passings = Counter(p.name for p in self.passed)
        return [Moment(name, count) for name in durable.FAILPOINTS for count in _spread(passings[name], each)]

    def chain(self) -> list[Kill]:
        """Kills at the middle passing of every failpoint, in their order: one run is killed at all of them.

        A successor does not repeat what is safe, so a passing is identified by what it is about.
        """
        places = [[i for i, p in enumerate(self.passed) if p.name == name] for name in durable.FAILPOINTS]
        middle = sorted(found[len(found) // 2] for found in places if found)
        return [Kill(Moment(self.passed[i].name, about=self.passed[i].about)) for i in middle]


def _spread(times: int, each: int) -> list[int]:
    if not (each and times):
        return []
    if each == 1 or times == 1:
        return [times // 2]
    return sorted({round(i * (times - 1) / (each - 1)) for i in range(each)})


def trial(reference: Reference, place: Place, kills: Sequence[Kill]) -> Result:
    """Kill the run and each of its successors as told, let the last one end, and compare."""
    where = ", then ".join(str(kill) for kill in kills)
    answers = steps = hit = 0
    for kill in (*kills, Kill()):
        safe = ask_child(lambda: judging.saved(place.root))
        ended = place.go(kill)
        twice = judging.done_twice(safe, ended.passed)
        answers, steps, hit = answers + twice.answers, steps + twice.steps, hit + ended.killed
        if not ended.killed and ended.code != 0:
            return Result(where, hit, answers, steps, failed="the same command failed; see its traceback")
    try:
        differing = judging.differing(reference.remains, place.remains())
    except ChildError as e:
        return Result(where, hit, answers, steps, failed=str(e))
    return Result(where, hit, answers, steps, differing)


def random_kills(reference: Reference, seed: int, count: int) -> list[list[Kill]]:
    """Kills anywhere in a run; every third trial has a second one, in the run that follows."""
    chosen = random.Random(seed)
    return [
        [Kill(after=chosen.uniform(0.0, reference.seconds)) for _ in range(2 if i % 3 == 2 else 1)]
        for i in range(count)
    ]
