"""Running a config in this process, without Prefect: `understudy.run` in a notebook or a script."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from core.config import Config, ResolvedConfig
from core.config.loading import load
from core.errors import ConfigError, StageError
from core.pipeline import seeds
from core.pipeline.distill import distill, perform_report
from core.pipeline.opening import opened
from core.pipeline.outcome import Outcome
from core.pipeline.reinforce import reinforce as reinforce_student
from core.pipeline.reporting import page_of
from core.pipeline.runners import Runner
from core.pipeline.switches import switches
from core.report import plural
from core.results import ReinforcementResult, RunResult, load_reinforcement_result, load_run_result
from core.store import Store
from core.sweep.arms import Sweep
from core.sweep.comparing import Ended
from core.sweep.report import write

log = logging.getLogger(__name__)


def run(
    config: Config | ResolvedConfig | Path | str,
    *,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    refresh: Sequence[str] = (),
    new: bool = False,
) -> RunResult | None:
    """Run the pipeline of a config, reusing every stage whose ingredients did not change.

    `config` may be a path. `only`, `skip` and `refresh` name stages, as on the command line; with `new`, a
    run of another config that has this name is kept under another one. Returns what run_summary.json
    contains; None if the last stages are switched off. Raises UnderstudyError.
    """
    resolved = resolve_for_run(config)
    chosen = switches(resolved.config.stages, only, skip, refresh)
    with opened(resolved, chosen, Runner, new=new) as this:
        outcome = distill_all(this, lambda seed: run(seed, only=only, skip=skip, refresh=refresh, new=new))
        return None if outcome is None else load_run_result(this.store, this.view.name)


def reinforce(
    config: Config | ResolvedConfig | Path | str,
    start: str | None = None,
    *,
    refresh: Sequence[str] = (),
    replace: bool = False,
) -> ReinforcementResult | None:
    """Reinforce a student by a config's `reinforce:`, in the run's rl_phase/.

    `start` is a run whose published student to start from, "latest", or "base"; by default the run's own
    student. With `replace`, files of a reinforcement with other settings are replaced. Returns what
    rl_phase/rl_summary.json contains. Raises UnderstudyError.
    """
    resolved = resolve_for_run(config)
    with opened(resolved, switches(resolved.config.stages, refresh=refresh), Runner) as this:
        finish(this, reinforce_student(this, start, replace=replace))
        return load_reinforcement_result(this.store, this.view.name)


def resolve_for_run(config: Config | ResolvedConfig | Path | str, origin: str = "argument") -> ResolvedConfig:
    """A config with the origin of each value. Raises ConfigError if the run has no name."""
    if isinstance(config, ResolvedConfig):
        return config
    if isinstance(config, Path | str):
        return load(Path(config))
    if config.run.name is None:
        raise ConfigError("run.name is missing: a run that is started from parameters needs one")
    return ResolvedConfig.from_parameter(config, origin)


def distill_all(run: Runner, distill_seed: Callable[[ResolvedConfig], object]) -> Outcome | None:
    """Distill, then call `distill_seed` for each other seed, whose run the report includes."""
    outcome = distill(run)
    if outcome is None:
        log.info("the stages after %s are off: no report, nothing published", run.switches.last)
        return None
    if others := seeds.others(run.config):
        for seed in others:
            distill_seed(seeds.resolved_of(run.resolved, seed))
        perform_report(run, outcome)
    finish(run, outcome)
    return outcome


def finish(run: Runner, outcome: Outcome) -> None:
    """End the trackers and show the run; optional parts that fail only now are added to the report."""
    last: list[Callable[[], None]] = [lambda: run.trackers.finish(run.view), lambda: run.show(outcome.phase)]
    for step in last:
        before = len(run.failures)
        step()
        if len(run.failures) > before:
            perform_report(run, outcome)
    if run.failures:
        where = run.view.where(outcome.phase.report)
        log.warning("optional parts left out: %d; %s lists them", len(run.failures), where)


def report_page(run: Runner, outcome: Outcome | None) -> str:
    """Where to look at the results: the report, or the run's folder without one."""
    return run.view.where("" if outcome is None else page_of(outcome))


def run_sweep(
    sweep: Sweep, run_arm: Callable[[ResolvedConfig], object], show: Callable[[Store, Sweep], None]
) -> str:
    """Run every arm and return where the report that compares them is.

    A failed arm does not stop the others. The report covers the finished arms; `show` shows it. Then the
    sweep raises StageError if an arm failed.
    """
    ended: list[Ended] = []
    for i, arm in enumerate(sweep.arms, start=1):
        log.info("arm %s (%d of %d): run %s", arm.name, i, len(sweep.arms), arm.run)
        try:
            run_arm(arm.resolved)
            ended.append(Ended(arm))
        except Exception as e:  # the other arms do not depend on this one
            log.error("arm %s: %s", arm.name, e)
            ended.append(Ended(arm, str(e) or type(e).__name__))
    store = Store.open(sweep.root)
    where = write(store, sweep, ended)
    show(store, sweep)
    failed = [each for each in ended if each.error is not None]
    if failed:
        arms = plural(len(sweep.arms), "arm")
        head = f"{len(failed)} of {arms} did not finish; the report of the others is {where}"
        raise StageError("\n".join([head, *(f"arm {each.arm.name}: {each.error}" for each in failed)]))
    return where
