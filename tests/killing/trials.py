"""One trial: a run that is killed, perhaps several times, and the same command until it ends."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from core import milestones
from tests.killing import judging
from tests.killing.children import Ended, Moment, ask_child, run_in_child
from tests.killing.direct import run


@dataclass(frozen=True, slots=True)
class Place:
    """A config and a root to run it under."""

    config: Path
    root: str

    def work(self) -> None:
        """The command."""
        run(self.config, [f"run.root={self.root}"])

    def go(self, moment: Moment = Moment(), kill_after: float | None = None) -> Ended:
        """Run it in a child."""
        with tempfile.TemporaryDirectory() as folder:
            return run_in_child(self.work, Path(folder) / "trace", moment, kill_after)

    def remains(self) -> dict[str, str]:
        """What the finished run left."""
        found: dict[str, str] = ask_child(lambda: judging.remains(self.root, self.config.stem))
        return found


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a trial; `differing` names what is unlike an undisturbed run's."""

    where: str
    killed: bool
    answers_twice: int = 0
    steps_twice: int = 0
    differing: Sequence[str] = ()
    failed: str = ""


@dataclass(slots=True)
class Reference:
    """An undisturbed run: what it leaves, how long it takes, how often it passes each milestone."""

    place: Place
    remains: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    passings: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, place: Place) -> Reference:
        """Run it."""
        ended = place.go()
        assert ended.code == 0, "an undisturbed run failed; see its traceback"
        passings = {name: sum(p.name == name for p in ended.passed) for name in milestones.ALL}
        return cls(place, place.remains(), ended.passed[-1].after, passings)

    def moments(self) -> list[Moment]:
        """Every milestone, at its first, its middle and its last passing."""
        return [
            Moment(name, count)
            for name, times in self.passings.items()
            for count in sorted({0, times // 2, times - 1})
            if times
        ]


def trial(reference: Reference, place: Place, moment: Moment, kill_after: float | None = None) -> Result:
    """Kill the run once, resume it, and compare."""
    where = f"after {kill_after:.2f} s" if kill_after is not None else f"{moment.name} #{moment.count}"
    first = place.go(moment, kill_after)
    if not first.killed:
        return Result(where, killed=False, failed="" if first.code == 0 else "failed before it was killed")
    safe = ask_child(lambda: judging.saved(place.root))
    resumed = place.go()
    if resumed.code != 0:
        return Result(where, killed=True, failed="the same command failed")
    twice = judging.done_twice(safe, resumed.passed)
    differing = judging.differing(reference.remains, place.remains())
    return Result(where, True, twice.answers, twice.steps, differing)


def random_moments(reference: Reference, seed: int, count: int) -> list[float]:
    """Seconds after which to kill, anywhere in a run."""
    chosen = random.Random(seed)
    return [chosen.uniform(0.0, reference.seconds) for _ in range(count)]
