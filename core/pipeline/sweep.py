"""A sweep: its arms one after another, each a run of its own, then one report of all."""

from __future__ import annotations

import logging
from collections.abc import Callable

from core.config.loading import ResolvedConfig
from core.errors import StageError
from core.report.text import plural
from core.store.objects import Store
from core.sweep.arms import Arm, Sweep
from core.sweep.comparing import Ended
from core.sweep.report import write

log = logging.getLogger(__name__)


def run_sweep(
    sweep: Sweep, run_arm: Callable[[ResolvedConfig], object], show: Callable[[Store, Sweep], None]
) -> str:
    """Run every arm and return where the report that compares them is.

    A failed arm does not stop the others. The report covers the finished arms; `show` shows it. Then the
    sweep raises StageError if an arm failed.
    """
    ended = [_run_arm(arm, f"{i} of {len(sweep.arms)}", run_arm) for i, arm in enumerate(sweep.arms, start=1)]
    store = Store.open(sweep.root)
    page = write(store, sweep, ended)
    show(store, sweep)
    failed = [each for each in ended if each.error is not None]
    if failed:
        arms = plural(len(sweep.arms), "arm")
        head = f"{len(failed)} of {arms} did not finish; the report of the others is {page}"
        raise StageError("\n".join([head, *(f"arm {each.arm.name}: {each.error}" for each in failed)]))
    return page


def _run_arm(arm: Arm, number: str, run_arm: Callable[[ResolvedConfig], object]) -> Ended:
    log.info("arm %s (%s): run %s", arm.name, number, arm.run)
    try:
        run_arm(arm.resolved)
    except Exception as e:  # the other arms do not depend on this one
        log.error("arm %s: %s", arm.name, e)
        return Ended(arm, str(e) or type(e).__name__)
    return Ended(arm)
