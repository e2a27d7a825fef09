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


def switches(
    config: StagesConfig, only: Iterable[str] = (), skip: Iterable[str] = (), refresh: Iterable[str] = ()
) -> Switches:
    """Combine config and command line. Raises UserError for a stage that does not exist."""
    only, skip, refresh = set(only), set(skip), set(refresh)
    for option, names in (("only", only), ("skip", skip), ("refresh", refresh)):
        for name in sorted(names.difference(NAMES)):
            near = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(NAMES)}"
            raise UserError(f"--{option} {name}: unknown stage; {hint}")
    off = set(NAMES) - only if only else {name for name in NAMES if not getattr(config, name)}
    off |= skip
    if off == set(NAMES):
        raise UserError(
            "no stage is left to run: --only, --skip and the config's stages: switch all of them off"
        )
    if both := off & refresh:
        raise UserError(
            f"--refresh {sorted(both)[0]}: this stage is switched off; switch it on to build it again"
        )
    return Switches(frozenset(off), frozenset(refresh))
