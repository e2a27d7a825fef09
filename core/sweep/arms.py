"""The arms of a sweep as runs: each with its whole config, checked before any of them begins."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.config.loading import ResolvedConfig, load
from core.errors import ConfigError
from core.sweep.file import SweepFile, read


@dataclass(frozen=True, slots=True)
class Arm:
    """One run of a sweep; `sets` are what its config changes of the base."""

    name: str
    sets: tuple[str, ...]
    resolved: ResolvedConfig

    @property
    def run(self) -> str:
        """The run's name."""
        return self.resolved.run_name

    @property
    def is_control(self) -> bool:
        """Whether it is there to be compared with, and not to be used: it learns what is not true."""
        return self.resolved.config.student.rationales == "shuffled"


@dataclass(frozen=True, slots=True)
class Sweep:
    """All arms in their order; the first is the one that the others are held against."""

    name: str
    base: str
    root: str
    overrides: tuple[str, ...]
    """What was changed of the base for all arms."""
    arms: tuple[Arm, ...]

    @property
    def metric(self) -> str:
        """What the arms are recommended by: the first one's metric of selection."""
        return self.arms[0].resolved.config.evaluation.metric


def load_sweep(path: Path, overrides: Sequence[str] = ()) -> Sweep:
    """Read a sweep file and the config of each arm; `overrides` change the base.

    Nothing of an arm is published unless it or `overrides` say publish=true: the last one would otherwise
    be the latest. Raises ConfigError naming the arm.
    """
    file = read(path)
    base = load(Path(file.base), overrides)
    name = file.name or path.stem
    arms = tuple(_arm(file, base.run_name, overrides, arm, sets) for arm, sets in file.points())
    _refuse_twins(arms)
    return Sweep(name, file.base, base.config.run.root, tuple(overrides), arms)


def _arm(file: SweepFile, run: str, overrides: Sequence[str], name: str, sets: tuple[str, ...]) -> Arm:
    given = ["publish=false", *overrides, *sets, f"run.name={json.dumps(f'{run}-{name}')}"]
    try:
        return Arm(name, sets, load(Path(file.base), given))
    except ConfigError as e:
        raise ConfigError("\n".join(f"arm {name}: {line}" for line in str(e).splitlines())) from e


def _refuse_twins(arms: Sequence[Arm]) -> None:
    """Two arms of one name would be one run."""
    seen: set[str] = set()
    for arm in arms:
        if arm.name in seen:
            raise ConfigError(f"two arms are called {arm.name}; give one of them another name")
        seen.add(arm.name)
