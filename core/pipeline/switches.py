"""Which stages run: the config's `stages:`, then --only and --skip, and what --refresh builds again."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from core.config import StagesConfig
from core.errors import UserError
from core.stage import Stage

NAMES: tuple[str, ...] = tuple(StagesConfig.model_fields)
"""The switches in the order of the pipeline. A stage declares which of them it belongs to."""


@dataclass(frozen=True, slots=True)
class Switches:
    """Switches that are off, and stages that are built again although their object is intact."""

    off: frozenset[str] = frozenset()
    refresh: frozenset[str] = frozenset()

    def on(self, stage: Stage[Any]) -> bool:
        return stage.switch not in self.off

    @property
    def last(self) -> str:
        """The last switch that is on. Stages before it run or are read; those after it are ignored."""
        return [name for name in NAMES if name not in self.off][-1]

    def read(self) -> list[str]:
        """Switches that are off while a later stage needs the earlier results."""
        return [name for name in NAMES[: NAMES.index(self.last)] if name in self.off]


def switches(
    config: StagesConfig, only: Iterable[str] = (), skip: Iterable[str] = (), refresh: Iterable[str] = ()
) -> Switches:
    """Combine config and command line. Raises UserError for a stage that does not exist."""
    only, skip, refresh = (
        _known(names, what) for names, what in ((only, "only"), (skip, "skip"), (refresh, "refresh"))
    )
    off = {name for name in NAMES if not getattr(config, name)}
    if only:
        off = set(NAMES) - only
    off |= skip
    if off == set(NAMES):
        raise UserError(
            "no stage is left to run: --only, --skip and the config's stages: switch all of them off"
        )
    both = off & refresh
    if both:
        raise UserError(
            f"--refresh {sorted(both)[0]}: this stage is switched off; switch it on to build it again"
        )
    return Switches(frozenset(off), frozenset(refresh))


def _known(names: Iterable[str], option: str) -> set[str]:
    found = set(names)
    for name in sorted(found - set(NAMES)):
        near = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(NAMES)}"
        raise UserError(f"--{option} {name}: unknown stage; {hint}")
    return found
