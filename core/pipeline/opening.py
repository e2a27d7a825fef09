"""Opening a run: its name is locked and claimed for its config, its log and state are written.

A run's name belongs to one config: the same config resumes the run, another one is refused or, with --new,
keeps the earlier run under another name.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from core.config import ResolvedConfig, differences
from core.config.config import render
from core.config.loading import ConfigSource, parse_source, resolve
from core.config.student import from_first_version
from core.errors import ConfigError, Failures, UnderstudyError, UserError
from core.pipeline.run_log import run_log
from core.pipeline.runners import Runner
from core.pipeline.switches import Switches
from core.store import RunView, Store, pointers, run_names
from core.store.run_view import CONFIG, SUMMARY, record_code
from core.tracking.trackers import tracked

log = logging.getLogger(__name__)
Kind = TypeVar("Kind", bound=Runner)

_SHOWN = 8
_PHASES = ("data_splits", "teacher_phase", "student_phase", "baseline_phase", "rl_phase")


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
            contextlib.closing(kind(resolved, Switches(), view)) as run,
        ):
            yield run


@contextlib.contextmanager
def _state_recorded(view: RunView) -> Iterator[None]:
    view.note_state("running")
    try:
        yield
    except BaseException as e:
        with contextlib.suppress(UnderstudyError):  # the error that ended the run matters more
            if isinstance(e, Exception):
                view.note_state("failed", error=str(e), mistake=isinstance(e, UserError))
            else:  # Ctrl-C, SIGTERM, or Prefect's cancellation
                view.note_state("stopped")
        raise
    view.note_state("finished")


def claim(view: RunView, resolved: ResolvedConfig, *, new: bool) -> str | None:
    """Reserve the name for this config and write the config; returns the earlier run's new name, if any.

    Raises UserError naming the keys that differ if the name belongs to another config; with `new`, that run
    is kept under a name of its own. A run that built nothing yet does not count, nor does one that never
    finished because of a mistake in its config.
    """
    aside: str | None = None
    if not new:
        refuse_other(view, resolved)
    elif other_config(view, resolved):
        aside = _set_aside(view)
        log.info("run %s begins again; the earlier one is kept as run %s", view.name, aside)
    view.write(CONFIG, render(resolved))
    return aside


def refuse_other(view: RunView, resolved: ResolvedConfig) -> None:
    """Raise UserError naming the keys that differ if the name belongs to another config."""
    differing = other_config(view, resolved)
    if not differing:
        return
    more = len(differing) - _SHOWN
    listed = "; ".join(differing[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
    raise UserError(
        f"run {view.name} at {view.where()} was made with another config: {listed}. Either add --new, which "
        f"keeps that run under another name and starts {view.name} again, or choose another name: "
        f"--set run.name={view.name}-2. Stages that do not depend on these keys are reused either way"
    )


def other_config(view: RunView, resolved: ResolvedConfig) -> list[str]:
    """The differences from the config that the name belongs to; empty if the name is free."""
    text = view.read(CONFIG)
    if text is None:
        # A run without a recorded config is the predecessor's: its answers were paid for.
        held = sorted({path.split("/")[0] for path in view.files()} & set(_PHASES))
        return [f"not an Understudy run: contains {', '.join(held)} but no {CONFIG}"] if held else []
    state = view.state()
    came_to_nothing = state is not None and state.mistake and view.read(SUMMARY) is None
    if not view.stages() or came_to_nothing:
        return []
    path = Path(view.where(CONFIG))
    try:
        before = resolve(path, _recorded(path, text))
    except ConfigError as e:
        return [f"it was made by another version, whose config this one cannot read ({e})"]
    return differences(before.config, resolved.config)


def run_config(view: RunView) -> ResolvedConfig:
    """The config of a run as it was resolved, with its present root and name.

    Raises MissingInputError if the run does not exist.
    """
    path = Path(view.where(CONFIG))
    place = {"run.root": view.store.backend.url, "run.name": view.name}
    # In quotes: a name such as 2026 is not a number.
    overrides = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in place.items()]
    return resolve(path, _recorded(path, view.config_text()), overrides)


def _recorded(path: Path, text: str) -> ConfigSource:
    """A run's recorded config, also that of a run of version 0.1."""
    source = parse_source(path, text)
    match source.values:
        case {"student": {"engine": str()} as student}:
            return replace(source, values={**source.values, "student": from_first_version(student)})
    return source


def _set_aside(view: RunView) -> str:
    """Keep a run under its name and the present time, which is returned; pointers follow."""
    backend, taken = view.store.backend, run_names(view.store)
    aside = dated = f"{view.name}.{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}"
    numbers = itertools.count(2)
    while aside in taken:  # another one within the same second
        aside = f"{dated}-{next(numbers)}"
    before, after = f"runs/{view.name}/", f"runs/{aside}/"
    files = [f.path for f in backend.list(before)]
    for path in files:
        backend.copy(path, after + path.removeprefix(before))
    pointers.retarget(view.store, before, after)
    backend.remove(files)
    return aside
