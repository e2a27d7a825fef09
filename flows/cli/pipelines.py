"""Commands that run pipelines on Prefect, describe such runs (`plan`), or prepare a server for them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from core.errors import UserError
from flows import environment
from flows.cli import console
from flows.cli.console import config_argument, refresh_option, root_option, set_option

if TYPE_CHECKING:
    from core.config import ResolvedConfig
    from core.pipeline.runners import Switches

_DONE = "Done. Look at {}"
_only_option = click.option("--only", multiple=True, metavar="STAGE", help="Run only this stage.")
_skip_option = click.option("--skip", multiple=True, metavar="STAGE", help="Read its earlier result.")
_new_option = click.option(
    "--new", is_flag=True, help="Start this name again if it belongs to another config."
)


@dataclass(frozen=True, slots=True)
class Request:
    """A config and the changes that the command line makes to it."""

    config: Path
    overrides: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    refresh: tuple[str, ...] = ()

    def check(self) -> tuple[ResolvedConfig, Switches]:
        """Load config and switches before anything heavy is imported, so that mistakes are found at once."""
        from core.config.loading import load
        from core.pipeline.runners import switches

        resolved = load(self.config, self.overrides)
        return resolved, switches(resolved.config.stages, self.only, self.skip, self.refresh)


def check_place(resolved: ResolvedConfig, *, new: bool) -> None:
    """Check root, name, data, rules, prompts and answers before Prefect takes its seconds to start."""
    from core.pipeline.opening import refuse_other
    from core.pipeline.run_context import check_files
    from core.store import RunView, Store

    view = RunView(Store.open(resolved.config.run.root), resolved.run_name)
    if not new:
        refuse_other(view, resolved)
    check_files(resolved.config)


def _prepare(resolved: ResolvedConfig, debug: bool) -> None:
    """Set Prefect's settings, the log on the terminal, and progress bars on terminals."""
    environment.prepare(debug=debug)
    environment.check_prefect()
    environment.detach_temporary_server()
    console.start_log(resolved.config.run.log_level, debug=debug)


def _requests(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the argument and options that describe a run, as one Request."""

    @functools.wraps(command)
    def requested(**values: Any) -> None:
        request = Request(**{f.name: values.pop(f.name) for f in fields(Request)})
        command(click.get_current_context().obj, request, **values)

    wrapped: Callable[..., None] = requested
    for option in (refresh_option, _skip_option, _only_option, set_option(), config_argument):
        wrapped = option(wrapped)
    return wrapped


@click.command()
@_requests
@_new_option
@click.option(
    "--smoke",
    type=click.IntRange(min=8),
    metavar="ROWS",
    help="Try everything on ROWS rows of each split under the name <run>-smoke, and project the full run.",
)
def run(debug: bool, request: Request, new: bool, smoke: int | None) -> None:
    """Run the pipeline of CONFIG, reusing every stage whose ingredients did not change."""
    resolved, switched = request.check()
    if smoke is not None:
        _smoke(debug, request, resolved, switched, smoke)
        return
    check_place(resolved, new=new)
    _prepare(resolved, debug)
    from flows.distill import distill

    only, skip, refresh = list(request.only), list(request.skip), list(request.refresh)
    console.show(_DONE.format(distill(resolved.as_parameter(), None, only, skip, refresh, new=new)))


def _smoke(debug: bool, request: Request, full: ResolvedConfig, switched: Switches, rows: int) -> None:
    """Run the pipeline on a few rows; an earlier smoke run of another config is kept under another name."""
    from core.pipeline.smoke import full_split, projected, smoke_config

    if "split" in switched.off:
        raise click.UsageError("--smoke limits the rows in the stage split, which is switched off")
    small = smoke_config(full, rows)
    check_place(small, new=True)
    _prepare(small, debug)
    parts = full_split(full, rows)
    from flows.distill import distill

    only, skip, refresh = list(request.only), list(request.skip), list(request.refresh)
    console.show(_DONE.format(distill(small.as_parameter(), None, only, skip, refresh, new=True)))
    for line in projected(full, parts, small.run_name).lines():
        console.show(line)


@click.command()
@_requests
@_new_option
def baseline(debug: bool, request: Request, new: bool) -> None:
    """Measure what a student has to beat: majority, TF-IDF, the untrained model, the teacher."""
    resolved, _ = request.check()
    if request.only:
        raise click.UsageError("baseline has no --only: its stages are few; leave some out with --skip")
    check_place(resolved, new=new)
    _prepare(resolved, debug)
    from flows.baseline import baseline

    skip, refresh = list(request.skip), list(request.refresh)
    console.show(_DONE.format(baseline(resolved.as_parameter(), None, skip, refresh, new)))


@click.command()
@_requests
def plan(debug: bool, request: Request) -> None:
    """Show what a run of CONFIG would reuse and what it would build, and the first prompt."""
    resolved, switched = request.check()
    from core.pipeline.run import describe_plan

    console.show(describe_plan(resolved, switched))


@click.command()
@click.option("--run", "name", required=True, help="The run's name.")
@root_option("The root it is under.")
@click.option("--checkpoint", default="best", show_default=True, help="best, final, step_<n>, or a path.")
@click.pass_obj
def evaluate(debug: bool, name: str, root: str, checkpoint: str) -> None:
    """Measure and export any checkpoint of a run, next to what the run exported itself."""
    from core.pipeline.opening import run_config
    from core.store import RunView, Store

    _prepare(run_config(RunView(Store.at(root), name)), debug)
    from flows.distill import evaluate_checkpoint

    console.show(_DONE.format(evaluate_checkpoint(name, root, checkpoint)))


@click.command()
@config_argument
@set_option("Override a key: reinforce.steps=50.")
@click.option(
    "--from",
    "start",
    metavar="RUN",
    help="A run whose published student to start from, latest, or base; by default CONFIG's own run.",
)
@click.option("--plan", "only_plan", is_flag=True, help="Show what it would sample, train and cost.")
@refresh_option
@click.option("--replace", is_flag=True, help="Replace an earlier reinforcement of the run that differs.")
@click.pass_obj
def reinforce(
    debug: bool,
    config: Path,
    overrides: tuple[str, ...],
    start: str | None,
    only_plan: bool,
    refresh: tuple[str, ...],
    replace: bool,
) -> None:
    """Reinforce the student of CONFIG's run by rewards for its own answers, as set in `reinforce:`."""
    resolved, _ = Request(config, overrides, refresh=refresh).check()
    check_place(resolved, new=False)
    if only_plan:
        from core.pipeline.run import describe_reinforcement

        console.show(describe_reinforcement(resolved, start))
        return
    _prepare(resolved, debug)
    from flows.distill import reinforce

    console.show(_DONE.format(reinforce(resolved.as_parameter(), None, start, list(refresh), replace)))


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@set_option("Change the base config of all arms.")
@click.option("--plan", "only_plan", is_flag=True, help="Show what would run and what is reused.")
@click.option("--new", is_flag=True, help="Start an arm's name again if it belongs to another config.")
@click.pass_obj
def sweep(debug: bool, file: Path, overrides: tuple[str, ...], only_plan: bool, new: bool) -> None:
    """Run every arm that FILE names, then compare them on the same rows in one report."""
    from core.summary.sweep_arms import load_sweep

    arms = load_sweep(file, overrides)
    if only_plan:
        from core.pipeline.run import describe_sweep

        console.show(describe_sweep(arms))
        return
    for arm in arms.arms:
        check_place(arm.resolved, new=new)
    _prepare(arms.arms[0].resolved, debug)
    from flows.distill import sweep

    console.show(_DONE.format(sweep(str(file), list(overrides), new)))


@click.command()
@config_argument
@set_option()
@click.option("--cron", metavar="LINE", help="Run at these times: '0 2 * * *' is every night at two.")
def serve(config: Path, overrides: tuple[str, ...], cron: str | None) -> None:
    """Serve CONFIG on this machine: Prefect's server starts its runs here, one at a time, until Ctrl-C."""
    resolved, _ = Request(config, overrides).check()
    environment.check_prefect_settings()
    environment.server_address()
    check_place(resolved, new=False)
    from flows.deploy import serve_config

    served = f"distill/{resolved.run_name}"
    console.show(f"Serving {served}: `prefect deployment run {served}` starts a run, Ctrl-C ends this.")
    serve_config(resolved, cron)


@click.command("publish-dataset")
@click.argument("path")
@click.option("--name", help="Name of the dataset; by default the file's name without endings.")
def publish_dataset(path: str, name: str | None) -> None:
    """Announce the table at PATH, a file or URL, to Prefect's server, where a trigger may start a run on it.

    Workers have to find it under the same path.
    """
    from core.data.tables import published_table

    environment.prepare()
    environment.check_prefect_settings()
    from flows.deploy import EVENT, RESOURCE, publish

    environment.server_address()
    table = published_table(path, name)
    publish(table)
    console.show(f"published {RESOURCE}{table.name} as {EVENT}: {table.path}, sha256 {table.sha256}")


@click.group("automations")
def automations() -> None:
    """Automations of Prefect's server for this project's runs."""


@automations.command("apply")
@click.option(
    "--webhook-env",
    metavar="NAME",
    help="The environment variable with the URL to call when a run fails; without it, no URL is called.",
)
@click.option(
    "--heartbeat",
    type=click.IntRange(min=30),
    metavar="SECONDS",
    help="Between two heartbeats of a run; by default PREFECT_FLOWS_HEARTBEAT_FREQUENCY, 180.",
)
def apply_automations(webhook_env: str | None, heartbeat: int | None) -> None:
    """Create or update them: a run without a heartbeat is marked Crashed, a failed run calls a webhook."""
    environment.prepare()
    environment.check_prefect_settings()
    from flows.deploy import apply

    url = os.environ.get(webhook_env) if webhook_env else None
    if webhook_env and not url:
        raise UserError(f"--webhook-env {webhook_env}: this environment variable contains no URL")
    for line in apply(heartbeat, url):
        console.show(line)
