"""Which stages run: the config's `stages:`, then --only and --skip, and what --refresh makes again."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from core.config import StagesConfig
from core.errors import UserError

NAMES: tuple[str, ...] = tuple(StagesConfig.model_fields)
WITH_EXPORT = frozenset({"decide", "analyse", "explain", "baseline", "adapter", "bundle", "hardness"})
"""What goes with the stage export."""


@dataclass(frozen=True, slots=True)
class Switches:
    """Stages that are off, and stages that are made again although they are whole."""

    off: frozenset[str]
    refresh: frozenset[str]

    def on(self, stage: str) -> bool:
        """Whether a stage runs."""
        return ("export" if stage in WITH_EXPORT else stage) not in self.off

    @property
    def last(self) -> str:
        """The last stage that is on. Those before it run or are read; those after it are left alone."""
        return [name for name in NAMES if name not in self.off][-1]

    def read(self) -> list[str]:
        """Stages that are off, and whose earlier results a later stage needs."""
        return [name for name in NAMES[: NAMES.index(self.last)] if name in self.off]


def switches(
    config: StagesConfig, only: Iterable[str] = (), skip: Iterable[str] = (), refresh: Iterable[str] = ()
) -> Switches:
    """Put config and command line together. Raises UserError for a stage that does not exist."""
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
            f"--refresh {sorted(both)[0]}: this stage is switched off; switch it on to make it again"
        )
    return Switches(frozenset(off), frozenset(refresh))


def _known(names: Iterable[str], option: str) -> set[str]:
    found = set(names)
    for name in sorted(found - set(NAMES)):
        near = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(NAMES)}"
        raise UserError(f"--{option} {name}: there is no such stage; {hint}")
    return found
