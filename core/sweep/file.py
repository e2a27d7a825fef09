"""The sweep file: a base config, named lists of overrides, and a grid of values."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from core.config.base import Section
from core.config.loading import leaves
from core.config.reading import Source, read_source
from core.errors import ConfigError
from core.jsonio import Mistake

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_RUN = ("run.name", "run.root")


class SweepFile(Section):
    """What a sweep consists of: every arm with every point of the grid."""

    base: str
    """The config that all arms begin from."""
    name: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """What the sweep's folder is called; by default the file's name without its ending."""
    arms: dict[str, tuple[str, ...]] = {}
    """Named lists of overrides, each as in --set: student.epochs=2. An empty list is the base itself."""
    grid: dict[str, list[Any]] = {}
    """Dotted keys and the values they take; several are crossed."""

    @model_validator(mode="after")
    def _something_to_compare(self) -> SweepFile:
        for name in self.arms:
            if not _NAME.fullmatch(name):
                raise ValueError(
                    f"arms.{name}: a name has letters, digits, dots, dashes and underscores only"
                )
        for key, values in self.grid.items():
            if not values:
                raise ValueError(f"grid.{key} has no values; name some, or take it out")
        for key in _keys(self):
            if key in _RUN:
                raise ValueError(f"{key} is the sweep's to say: arms share a root, and are <run>-<arm>")
        if sum(1 for _ in self.points()) < 2:
            raise ValueError("arms and grid make fewer than two arms: there is nothing to compare")
        return self

    def points(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """The arms' names and overrides, in the file's order, the grid's last key changing fastest."""
        arms = self.arms or {"": ()}
        short = _short(list(self.grid))
        for arm, sets in arms.items():
            for values in itertools.product(*self.grid.values()):
                named = [f"{short[k]}-{_slug(v)}" for k, v in zip(self.grid, values, strict=True)]
                crossed = [f"{k}={_written(v)}" for k, v in zip(self.grid, values, strict=True)]
                yield "-".join([*([arm] if arm else []), *named]), (*sets, *crossed)


def read(path: Path) -> SweepFile:
    """Read and check a sweep file. Raises ConfigError with file and line."""
    source = read_source(path)
    try:
        return SweepFile.model_validate_json(json.dumps(source.values, default=str), strict=True)
    except ValidationError as e:
        raise ConfigError(_message(e, source)) from None


def _keys(file: SweepFile) -> Iterator[str]:
    yield from file.grid
    yield from (text.partition("=")[0].strip() for sets in file.arms.values() for text in sets)


def _short(keys: list[str]) -> dict[str, str]:
    """The last part of each key, or the whole key where two would look alike."""
    last = [key.rpartition(".")[2] for key in keys]
    return {key: key if last.count(name) > 1 else name for key, name in zip(keys, last, strict=True)}


def _written(value: Any) -> str:
    """A value as --set reads it; floats as they are, since YAML's 1e-05 would be another matter in JSON."""
    return json.dumps(value, ensure_ascii=False)


def _slug(value: Any) -> str:
    text = value if isinstance(value, str) else _written(value)
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-") or "none"


def _message(error: ValidationError, source: Source) -> str:
    mistake = Mistake.of(error)
    name, place = ".".join(mistake.path), source.place(mistake.path)
    if mistake.type == "extra_forbidden":
        known = ", ".join(SweepFile.model_fields)
        where = "; what changes from arm to arm belongs into arms or grid" if _is_config(mistake.path) else ""
        return f"{place}: {name} is not a key of a sweep; there are: {known}{where}"
    if mistake.type == "missing":
        return f"{place}: {name} is missing; see configs/sweep.yaml for an example"
    text = mistake.text.removeprefix("Input ")
    return f"{place}: {name + ': ' if name else ''}{text}; see configs/sweep.yaml for an example"


def _is_config(key: tuple[str, ...]) -> bool:
    from core.config import Config

    return key[0] in {path[0] for path in leaves(Config)}
