"""Opening a run: its name is locked and claimed, its log and state are written, its trackers started."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TypeVar

from core.config.loading import ResolvedConfig
from core.errors import UnderstudyError, UserError
from core.optional import Failures
from core.pipeline.naming import claim, run_config
from core.pipeline.run_log import run_log
from core.pipeline.runners import InlineRunner
from core.pipeline.switches import Switches
from core.provenance import record_code
from core.store.objects import Store
from core.store.runs import RunView
from core.tracking.trackers import tracked

Kind = TypeVar("Kind", bound=InlineRunner)


@contextlib.contextmanager
def opened(
    resolved: ResolvedConfig, switches: Switches, kind: type[Kind], *, new: bool = False
) -> Iterator[Kind]:
    """Open a run under its name. No other process works under it meanwhile, and its end is recorded.

    With `new`, a run of another config that has this name is kept under another one. Raises UserError
    naming the keys that differ if there is such a run and not `new`.
    """
    view = RunView(Store.open(resolved.config.run.root), resolved.run_name)
    with view.store.lease(f"runs/{view.name}", f"run {view.name}"):
        before = claim(view, resolved, new=new)
        record_code(view)
        failures = Failures(kind.never_optional)
        with (
            run_log(view, resolved.config.run.log_level),
            _state_recorded(view),
            tracked(resolved.config, view, failures) as trackers,
            contextlib.closing(kind(resolved, switches, view, trackers, failures, before)) as run,
        ):
            yield run


@contextlib.contextmanager
def reopened(root: str, name: str, kind: type[Kind]) -> Iterator[Kind]:
    """Open a run to add to it, without changing its state. Raises MissingInputError if there is none."""
    view = RunView(Store.open(root), name)
    run_config(view)  # before waiting for the lock: whether there is such a run
    with view.store.lease(f"runs/{name}", f"run {name}"):
        resolved = run_config(view)  # another process may have replaced the run meanwhile
        with (
            run_log(view, resolved.config.run.log_level),
            contextlib.closing(kind(resolved, Switches(frozenset(), frozenset()), view)) as run,
        ):
            yield run


@contextlib.contextmanager
def _state_recorded(view: RunView) -> Iterator[None]:
    view.note_state("running")
    try:
        yield
    except Exception as e:
        with contextlib.suppress(UnderstudyError):  # the error that ended the run matters more
            view.note_state("failed", error=str(e), mistake=isinstance(e, UserError))
        raise
    except BaseException:  # Ctrl-C, SIGTERM, or Prefect's cancellation
        with contextlib.suppress(UnderstudyError):
            view.note_state("stopped")
        raise
    view.note_state("finished")
