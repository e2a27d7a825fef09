"""The sweep file, and its arms as runs: each with its whole config, checked before any of them begins."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from core.config import Config, ConfigSection, ResolvedConfig
from core.config.loading import leaves, load, read_source
from core.errors import ConfigError
from core.jsonio import FieldError

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_OF_THE_SWEEP = ("run.name", "run.root")
_EXAMPLE = "see configs/sweep.yaml for an example"


class SweepFile(ConfigSection):
    """What a sweep consists of: every arm with every point of the grid."""

    base: str
    """The config that all arms begin from."""
    name: str | None = Field(None, pattern=_NAME)
    """The sweep's folder; by default the file's name without its ending."""
    arms: dict[str, tuple[str, ...]] = {}
    """Named lists of overrides, each as in --set: student.epochs=2. An empty list is the base itself."""
    grid: dict[str, list[Any]] = {}
    """Dotted keys and the values they take; several are crossed."""

    @model_validator(mode="after")
    def _something_to_compare(self) -> SweepFile:
        for name in self.arms:
            if not re.fullmatch(_NAME, name):
                raise ValueError(
                    f"arms.{name}: a name has letters, digits, dots, dashes and underscores only"
                )
        for key, values in self.grid.items():
            if not values:
                raise ValueError(f"grid.{key} has no values; name some, or remove it")
        overridden = [text.partition("=")[0].strip() for sets in self.arms.values() for text in sets]
        for key in (*self.grid, *overridden):
            if key in _OF_THE_SWEEP:
                raise ValueError(f"{key} is set by the sweep: arms share a root, and are <run>-<arm>")
        if sum(1 for _ in self.points()) < 2:
            raise ValueError("arms and grid make fewer than two arms: there is nothing to compare")
        return self

    def points(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """The arms' names and overrides, in the file's order, the grid's last key changing fastest."""
        last = [key.rpartition(".")[2] for key in self.grid]
        short = [name if last.count(name) == 1 else key for key, name in zip(self.grid, last, strict=True)]
        for arm, sets in (self.arms or {"": ()}).items():
            for values in itertools.product(*self.grid.values()):
                texts = [json.dumps(value, ensure_ascii=False) for value in values]
                plain = [v if isinstance(v, str) else text for v, text in zip(values, texts, strict=True)]
                slugs = [re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-") or "none" for text in plain]
                named = [f"{key}-{slug}" for key, slug in zip(short, slugs, strict=True)]
                crossed = [f"{key}={text}" for key, text in zip(self.grid, texts, strict=True)]
                yield "-".join([*([arm] if arm else []), *named]), (*sets, *crossed)


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
        """Whether it is only there to be compared with: its rationales are those of other texts."""
        return self.resolved.config.student.rationales == "shuffled"


@dataclass(frozen=True, slots=True)
class Sweep:
    """All arms in their order; the others are compared with the first."""

    name: str
    base: str
    root: str
    overrides: tuple[str, ...]
    """What was changed of the base for all arms."""
    arms: tuple[Arm, ...]

    @property
    def metric(self) -> str:
        """The metric of the recommendation: the first arm's metric of selection."""
        return self.arms[0].resolved.config.evaluation.metric


def load_sweep(path: Path, overrides: Sequence[str] = ()) -> Sweep:
    """Read a sweep file and the config of each arm; `overrides` change the base.

    Nothing of an arm is published unless it or `overrides` set publish=true: the last one would otherwise
    be the latest. Raises ConfigError naming the arm.
    """
    file = read_sweep_file(path)
    base = load(Path(file.base), overrides)
    arms: dict[str, Arm] = {}
    for name, sets in file.points():
        if name in arms:
            raise ConfigError(f"two arms are called {name}; give one of them another name")
        run = json.dumps(f"{base.run_name}-{name}")
        given = ["publish=false", *overrides, *sets, f"run.name={run}"]
        try:
            arms[name] = Arm(name, sets, load(Path(file.base), given))
        except ConfigError as e:
            raise ConfigError("\n".join(f"arm {name}: {line}" for line in str(e).splitlines())) from e
    root = base.config.run.root
    return Sweep(file.name or path.stem, file.base, root, tuple(overrides), tuple(arms.values()))


def read_sweep_file(path: Path) -> SweepFile:
    """Read and check a sweep file. Raises ConfigError with file and line."""
    source = read_source(path)
    try:
        return SweepFile.model_validate_json(json.dumps(source.values, default=str), strict=True)
    except ValidationError as e:
        mistake = FieldError.of(e)
    name = ".".join(mistake.path)
    if mistake.type == "extra_forbidden":
        known = ", ".join(SweepFile.model_fields)
        is_config = mistake.path[0] in {path[0] for path in leaves(Config)}
        where = "; what changes from arm to arm belongs into arms or grid" if is_config else ""
        text = f"{name} is not a key of a sweep; there are: {known}{where}"
    elif mistake.type == "missing":
        text = f"{name} is missing; {_EXAMPLE}"
    else:
        text = f"{name + ': ' if name else ''}{mistake.text.removeprefix('Input ')}; {_EXAMPLE}"
    raise ConfigError(f"{source.place(mistake.path)}: {text}")
