"""Opening a run: its name is locked and claimed for its config, its log and state are written.

A run's name belongs to one config: the same config resumes the run, another one is refused or, with --new,
keeps the earlier run under another name. The runs of other seeds have names and configs of their own.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import json
import logging
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from core.config import Config, ResolvedConfig, differences
from core.config.config import render
from core.config.loading import ConfigSource, parse_source, resolve
from core.config.section import walk
from core.config.student import from_first_version
from core.errors import ConfigError, Failures, UnderstudyError, UserError
from core.export.run_files import SplitMetrics, metrics_name
from core.pipeline.runners import Runner, Switches
from core.progress import LOGGERS
from core.records import SplitName
from core.report import SeedResult
from core.store import Manifest, RunView, Store, explained, pointers, run_names
from core.store.run_view import CONFIG, SUMMARY, record_code
from core.student.encode_stage import encode
from core.tracking.trackers import tracked

log = logging.getLogger(__name__)
Kind = TypeVar("Kind", bound=Runner)
_KEYS_SHOWN = 8
_PHASES = ("data_splits", "teacher_phase", "student_phase", "baseline_phase", "rl_phase")
LOG = "train.log"
_UPLOAD_EVERY = 30.0
"""Seconds between two uploads of the log to a remote root."""


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
        log.info("run %s begins again; the earlier one is kept as run %s", view.name, aside)
    view.write(CONFIG, render(resolved))
    return aside


def refuse_other(view: RunView, resolved: ResolvedConfig) -> None:
    """Raise UserError naming the keys that differ if the name belongs to another config."""
    differing = other_config(view, resolved)
    if not differing:
        return
    more = len(differing) - _KEYS_SHOWN
    listed = "; ".join(differing[:_KEYS_SHOWN]) + (f"; and {more} more" if more > 0 else "")
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
        before = resolve(path, _parse_recorded(path, text))
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
    return resolve(path, _parse_recorded(path, view.config_text()), overrides)


def _parse_recorded(path: Path, text: str) -> ConfigSource:
    """A run's recorded config, also that of a run of version 0.1."""
    source = parse_source(path, text)
    match source.values:
        case {"student": {"engine": str()} as student}:
            return replace(source, values={**source.values, "student": from_first_version(student)})
    return source


class RunLog(logging.FileHandler):
    """A log on a disk that may be full. Errors of writing it are ignored: the lines are on the terminal,
    too, and the error that reports the full disk matters more."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Ignore it."""

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


@contextlib.contextmanager
def run_log(view: RunView, level: str) -> Iterator[None]:
    """Write our log lines from `level` on to the run's train.log inside the block.

    The error that ends the run is written there as well; on the terminal the command line prints it. Under a
    remote root the file is uploaded every 30 s and when the run ends.
    """
    with _log_file(view) as path:
        with explained(path, "write"):
            handler = RunLog(path, mode="a", encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        for logger in map(logging.getLogger, LOGGERS):
            logger.addHandler(handler)
            if logger.level == logging.NOTSET:
                logger.setLevel(level)
        try:
            yield
        except BaseException as e:
            values = {"name": __name__, "levelname": "ERROR", "msg": f"{type(e).__name__}: {e}"}
            handler.handle(logging.makeLogRecord({**values, "levelno": logging.ERROR}))
            raise
        finally:
            for logger in map(logging.getLogger, LOGGERS):
                logger.removeHandler(handler)
            handler.close()


@contextlib.contextmanager
def _log_file(view: RunView) -> Iterator[Path]:
    """Yield the file of the log; that of a remote root is a temporary one, which a thread uploads."""
    folder = view.store.backend.folder
    if folder is not None:
        path = folder / "runs" / view.name / LOG
        with explained(path, "write"):
            path.parent.mkdir(parents=True, exist_ok=True)
        yield path
        return

    def upload() -> None:
        try:
            view.write(LOG, path.read_text(encoding="utf-8", errors="replace"))
        except UnderstudyError as e:  # the run matters more than its log
            log.debug("the log was not uploaded: %s", e)

    def keep_uploading() -> None:
        while not ended.wait(_UPLOAD_EVERY):
            upload()

    with tempfile.TemporaryDirectory() as temporary:
        path, ended = Path(temporary) / LOG, threading.Event()
        path.write_text(view.read(LOG) or "", encoding="utf-8")
        thread = threading.Thread(target=keep_uploading, name="train.log", daemon=True)
        thread.start()
        try:
            yield path
        finally:
            ended.set()
            thread.join()
            upload()


def seed_run_name(run: str, seed: int) -> str:
    return f"{run}-seed{seed}"


def other_seeds(config: Config) -> tuple[int, ...]:
    """The seeds that are trained besides the run's own."""
    return config.student.seeds[1:]


def seed_config(config: Config, run: str, seed: int) -> Config:
    """The config of a run with another seed, which is never published: the seed to publish is fixed in
    advance, so that it cannot be chosen by its results."""
    named = config.run.model_copy(update={"name": seed_run_name(run, seed)})
    student = config.student.model_copy(update={"seeds": (seed,)})
    return config.model_copy(update={"run": named, "student": student, "publish": False})


def resolve_seed(resolved: ResolvedConfig, seed: int) -> ResolvedConfig:
    """The config of a run with another seed, and where its values come from."""
    config = seed_config(resolved.config, resolved.run_name, seed)
    origins = {key: resolved.origins.get(key, "") for key, _, _ in walk(config)}
    for key in (("run", "name"), ("student", "seeds"), ("publish",)):
        origins[key] = f"student.seeds of run {resolved.run_name}"
    return ResolvedConfig(config, origins)


def seed_results(
    store: Store, run: str, config: Config, encoded: Manifest, split: SplitName, *, label_only: bool
) -> list[SeedResult]:
    """The results of other seeds on a split, as far as they are measured.

    A student that learned from examples other than `encoded`, or by another config, is an earlier run's.
    """
    out, file = [], metrics_name(split, label_only=label_only)
    for seed in other_seeds(config):
        view = RunView(store, seed_run_name(run, seed))
        found = view.read_json(f"student_phase/{file}")
        record = view.stages().get(encode.name)
        if found is None or record is None or record.digest != encoded.digest or view.read(CONFIG) is None:
            continue
        with contextlib.suppress(ConfigError):  # of another version
            if not differences(run_config(view).config, seed_config(config, run, seed)):
                read = SplitMetrics.from_json(found, f"{view.name}/{file}")
                out.append(SeedResult(view.name, seed, read.metrics))
    return out


def missing_seeds(config: Config, measured: Sequence[SeedResult]) -> list[str]:
    """A sentence on the seeds that are not among those measured."""
    left = [str(seed) for seed in other_seeds(config) if seed not in {result.seed for result in measured}]
    if not left:
        return []
    what = f"Seed {left[0]} was" if len(left) == 1 else f"Seeds {', '.join(left)} were"
    return [f"{what} named and not measured yet: the same command continues with the rest."]
