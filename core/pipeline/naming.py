"""A run's name stands for one config: the same one resumes it, another is stopped or begins it anew."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import logging
from dataclasses import replace
from pathlib import Path

from core.config.loading import ResolvedConfig, resolve
from core.config.reading import Source, parse_source
from core.config.student import from_first_version
from core.config.writing import differences, render
from core.errors import ConfigError, UserError
from core.store import pointers
from core.store.objects import Store
from core.store.runs import CONFIG, SUMMARY, RunView, run_names

log = logging.getLogger(__name__)

_SHOWN = 8
_PHASES = ("data_splits", "teacher_phase", "student_phase", "baseline_phase", "rl_phase")


def claim(view: RunView, resolved: ResolvedConfig, *, new: bool) -> str | None:
    """Take the name for this config and write the config down; return the run that was set aside for it.

    Raises UserError naming the keys that differ where the name stands for another config; with
    `new` that run is set aside under a name of its own. A run that made nothing yet is no hindrance,
    nor is one that never got to its end and was stopped by a mistake in its config.
    """
    aside: str | None = None
    if not new:
        refuse_other(view, resolved)
    elif other_config(view, resolved):
        aside = set_aside(view).name
        log.info("run %s begins anew; what it was is kept as run %s", view.name, aside)
    view.write(CONFIG, render(resolved))
    return aside


def refuse_other(view: RunView, resolved: ResolvedConfig) -> None:
    """Raise UserError naming the keys that differ where the name stands for another config."""
    if differing := other_config(view, resolved):
        raise UserError(refusal(view, differing))


def run_config(view: RunView) -> ResolvedConfig:
    """The config of a run as it was resolved, under the root and the name where it lies now.

    Raises MissingInputError where there is no such run.
    """
    path = Path(view.where(CONFIG))
    place = {"run.root": view.store.backend.url, "run.name": view.name}
    # In quotes: a name such as 2026 is no number.
    overrides = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in place.items()]
    return resolve(path, _recorded(path, view.config_text()), overrides)


def other_config(view: RunView, resolved: ResolvedConfig) -> list[str]:
    """What differs from the config that the name stands for; empty where nothing stands in the way."""
    text = view.read(CONFIG)
    if text is None:
        return _foreign(view)
    if not view.stages() or _came_to_nothing(view):
        return []
    path = Path(view.where(CONFIG))
    try:
        before = resolve(path, _recorded(path, text))
    except ConfigError as e:
        return [f"it was made by another version, whose config this one cannot read ({e})"]
    return differences(before.config, resolved.config)


def _recorded(path: Path, text: str) -> Source:
    """A run's recorded config, also that of a run of version 0.1."""
    source = parse_source(path, text)
    student = source.values.get("student")
    if not isinstance(student, dict) or not isinstance(student.get("engine"), str):
        return source
    return replace(source, values={**source.values, "student": from_first_version(student)})


def _foreign(view: RunView) -> list[str]:
    """A run without the file that every run begins with is the predecessor's: its answers were paid for."""
    held = sorted({path.split("/")[0] for path in view.files()} & set(_PHASES))
    return [f"it is none of this project's: it has {', '.join(held)} and no {CONFIG}"] if held else []


def _came_to_nothing(view: RunView) -> bool:
    state = view.state()
    return state is not None and state.mistake and view.read(SUMMARY) is None


def refusal(view: RunView, differing: list[str]) -> str:
    """The sentence for a name that stands for another config."""
    more = len(differing) - _SHOWN
    listed = "; ".join(differing[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
    return (
        f"run {view.name} at {view.where()} was made with another config: {listed}. Either add --new, which "
        f"keeps that run under another name and begins {view.name} anew, or give this one another name: "
        f"--set run.name={view.name}-2. What does not depend on these keys is reused either way"
    )


def set_aside(view: RunView) -> RunView:
    """Keep a run under its name and the present time, and free its name; pointers follow."""
    aside = _free(view.store, f"{view.name}.{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}")
    backend = view.store.backend
    before, after = f"runs/{view.name}/", f"runs/{aside.name}/"
    files = [f.path for f in backend.list(before)]
    for path in files:
        backend.copy(path, after + path.removeprefix(before))
    pointers.retarget(view.store, before, after)
    backend.remove(files)
    return aside


def _free(store: Store, name: str) -> RunView:
    """The name, or where a run was set aside within the same second, the name with a number."""
    taken = run_names(store)
    numbered = (f"{name}-{i}" for i in itertools.count(2))
    return RunView(store, next(n for n in itertools.chain([name], numbered) if n not in taken))
