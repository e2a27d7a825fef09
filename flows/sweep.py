"""The flow of a sweep: its arms one after another, each a run of its own, then one report of all."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from core.errors import StageError
from core.optional import Failures, Part
from core.report.text import plural
from core.store.objects import Store
from core.sweep.arms import Arm, Sweep, load_sweep
from core.sweep.finished import Ended
from core.sweep.report import FOLDER, MARKDOWN, write
from flows.distill import distill
from flows.parameters import lending

log = logging.getLogger(__name__)


@flow(name="sweep", flow_run_name="sweep: {file}", persist_result=False)
def sweep(file: str, overrides: Sequence[str] = (), new: bool = False) -> str:
    """Carry out every arm of a sweep file and return where the report that compares them is.

    An arm that fails loses no other; the report is of those that are finished, and then the sweep fails.

    Args:
        file: The sweep file; relative paths are relative to the working directory.
        overrides: Changes of the base config, as with --set.
        new: Begin a name anew where it stands for another config.
    """
    of = load_sweep(Path(file), list(overrides))
    ended = [carried_out(arm, i, of, new=new) for i, arm in enumerate(of.arms, start=1)]
    store = Store.open(of.root)
    page = write(store, of, ended)
    with Failures().optional(Part.ARTIFACT, "sweep-report"):
        _show(store, of)
    failed = [each for each in ended if each.error is not None]
    if failed:
        raise StageError(_said(of, failed, page))
    return page


def carried_out(arm: Arm, i: int, of: Sweep, *, new: bool) -> Ended:
    """One arm's run, to its end or to what stops it."""
    log.info("arm %s (%d of %d): run %s", arm.name, i, len(of.arms), arm.run)
    try:
        with lending(arm.resolved) as config:
            distill(config, new=new)
    except Exception as e:  # whatever ends one arm, the others are worth as much without it
        log.error("arm %s: %s", arm.name, e)
        return Ended(arm, str(e) or type(e).__name__)
    return Ended(arm)


def _said(of: Sweep, failed: Sequence[Ended], page: str) -> str:
    lines = [f"arm {each.arm.name}: {each.error}" for each in failed]
    head = (
        f"{len(failed)} of {plural(len(of.arms), 'arm')} came to no end; the report of the others is {page}"
    )
    return "\n".join([head, *lines])


def _show(store: Store, of: Sweep) -> None:
    found = store.backend.read(f"{FOLDER}/{of.name}/{MARKDOWN}")
    if found is not None:
        said = f"Sweep {of.name}"
        create_markdown_artifact(key="sweep-report", markdown=found.data.decode(), description=said)
