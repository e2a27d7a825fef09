"""`understudy`: run, plan, evaluate, reinforce, housekeeping, checkpoints on servers, and old configs."""

from __future__ import annotations

import functools
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from core.errors import UnderstudyError
from flows.cli import saying
from flows.cli.checkpoints import checkpoints
from flows.cli.housekeeping import collect_garbage, list_runs, remove
from flows.cli.importing import import_config
from flows.cli.locating import root_option
from flows.cli.predicting import predict
from flows.cli.preparing import check_place, prepare
from flows.cli.reinforcing import reinforce
from flows.cli.serving import automations, publish_dataset
from flows.cli.summaries import compare, summary
from flows.cli.sweeping import sweep

if TYPE_CHECKING:
    from core.config.loading import ResolvedConfig
    from core.pipeline.switches import Switches


@dataclass(frozen=True, slots=True)
class Request:
    """A config and what the command line changes about it."""

    config: Path
    overrides: tuple[str, ...]
    only: tuple[str, ...]
    skip: tuple[str, ...]
    refresh: tuple[str, ...]

    def check(self) -> tuple[ResolvedConfig, Switches]:
        """Load config and switches before anything heavy is imported: mistakes answer at once."""
        from core.config.loading import load
        from core.pipeline.switches import switches

        resolved = load(self.config, self.overrides)
        return resolved, switches(resolved.config.stages, self.only, self.skip, self.refresh)


_OPTIONS = (
    click.argument("config", type=click.Path(path_type=Path)),
    click.option(
        "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key: student.epochs=2."
    ),
    click.option("--only", multiple=True, metavar="STAGE", help="Run only this stage; others are read."),
    click.option("--skip", multiple=True, metavar="STAGE", help="Read this stage's earlier result."),
    click.option("--refresh", multiple=True, metavar="STAGE", help="Make this stage again."),
)


def _asks_for_a_run(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the argument and options that say what to run, as one Request."""

    @functools.wraps(command)
    def asked(**values: Any) -> None:
        request = Request(**{f.name: values.pop(f.name) for f in fields(Request)})
        command(click.get_current_context().obj, request, **values)

    wrapped: Callable[..., None] = asked
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


class _BrokenPipe(Exception):
    """A BrokenPipeError of a command: click itself ends at any of these without a word."""


class _Commands(click.Group):
    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except BrokenPipeError as e:
            raise _BrokenPipe(str(e)) from e


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="understudy-distill", prog_name="understudy")
@click.option("--debug", is_flag=True, help="Log everything and show tracebacks.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    envvar="UNDERSTUDY_LOG_FORMAT",
    help="Lines on stderr for people, or one JSON object each.",
)
@click.pass_context
def cli(context: click.Context, debug: bool, log_format: saying.Format) -> None:
    """Turn a written policy and labelled texts into a small model that applies the policy."""
    context.obj = debug
    saying.use(log_format)


@cli.command()
@_asks_for_a_run
@click.option("--new", is_flag=True, help="Begin this name anew if it stands for another config.")
def run(debug: bool, request: Request, new: bool) -> None:
    """Run the pipeline of CONFIG, reusing every stage whose ingredients did not change."""
    resolved, _ = request.check()
    check_place(resolved, new=new)
    prepare(resolved, debug)
    from flows.distill import distill

    only, skip, refresh = list(request.only), list(request.skip), list(request.refresh)
    report = distill(resolved.as_parameter(), None, only, skip, refresh, new=new)
    saying.show(f"Done. Look at {report}")


@cli.command()
@_asks_for_a_run
@click.option("--new", is_flag=True, help="Begin this name anew if it stands for another config.")
def baseline(debug: bool, request: Request, new: bool) -> None:
    """Measure what a student has to beat: majority, TF-IDF, the untrained model, the teacher."""
    resolved, _ = request.check()
    if request.only:
        raise click.UsageError("baseline has no --only: its stages are few; leave some out with --skip")
    check_place(resolved, new=new)
    prepare(resolved, debug)
    from flows.baseline import baseline

    report = baseline(resolved.as_parameter(), None, list(request.skip), list(request.refresh), new)
    saying.show(f"Done. Look at {report}")


@cli.command()
@_asks_for_a_run
def plan(debug: bool, request: Request) -> None:
    """Say what a run of CONFIG would reuse and what it would make, and show the first prompt."""
    resolved, switched = request.check()
    from core.pipeline.planning import describe_plan

    saying.show(describe_plan(resolved, switched))


@cli.command()
@click.option("--run", "name", required=True, help="The run's name.")
@root_option("The root it is under.")
@click.option("--checkpoint", default="best", show_default=True, help="best, final, step_<n>, or a path.")
@click.pass_obj
def evaluate(debug: bool, name: str, root: str, checkpoint: str) -> None:
    """Measure and export any checkpoint of a run, beside what the run exported itself."""
    from core.pipeline.naming import run_config
    from core.store.objects import Store
    from core.store.runs import RunView

    prepare(run_config(RunView(Store.at(root), name)), debug)
    from flows.evaluate import evaluate_checkpoint

    saying.show(f"Done. Look at {evaluate_checkpoint(name, root, checkpoint)}")


@cli.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key: student.epochs=2."
)
@click.option("--cron", metavar="LINE", help="Run at these times: '0 2 * * *' is every night at two.")
@click.pass_obj
def serve(debug: bool, config: Path, overrides: tuple[str, ...], cron: str | None) -> None:
    """Serve CONFIG on this machine: Prefect's server starts its runs here, one at a time, until Ctrl-C."""
    resolved, _ = Request(config, overrides, (), (), ()).check()
    from flows import environment

    environment.check_prefect_settings()
    from flows.server import address

    address()
    check_place(resolved, new=False)
    from flows.serving import serve_config

    served = f"distill/{resolved.run_name}"
    saying.show(f"Serving {served}: `prefect deployment run {served}` starts a run, Ctrl-C ends this.")
    serve_config(resolved, cron)


_OTHERS = (
    reinforce,
    sweep,
    predict,
    list_runs,
    remove,
    collect_garbage,
    summary,
    compare,
    checkpoints,
    publish_dataset,
    automations,
    import_config,
)
for _command in _OTHERS:
    cli.add_command(_command)


def main(arguments: list[str] | None = None) -> None:
    """The entry point: runs a command; ends with 2 for the user's mistakes and 1 for failures."""
    given = sys.argv[1:] if arguments is None else arguments
    saying.use_any_console()
    code = _guarded(lambda: cli.main(args=arguments, standalone_mode=False), debug="--debug" in given)
    if code not in (0, 2, _NO_READER) and next((a for a in given if a in cli.commands), "") in _RESUMABLE:
        saying.tell(f"To go on: {shlex.join(['understudy', *given])}")
    sys.exit(code)


_NO_READER = 128 + signal.SIGPIPE
"""What programs end with that write to a pipe after its reader has gone."""
_RESUMABLE = ("run", "baseline", "evaluate", "reinforce", "sweep", "predict")


class Terminated(BaseException):
    """SIGTERM: whoever sends it wants what Ctrl-C wants, an orderly end.

    No KeyboardInterrupt, which click would turn into its own.
    """


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _guarded(command: Callable[[], object], *, debug: bool) -> int:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)
    try:
        command()
    except click.exceptions.Exit as e:
        return e.exit_code
    except click.ClickException as e:
        e.show(sys.stderr)
        return 2
    except (KeyboardInterrupt, click.Abort, Terminated) as e:
        saying.tell("Stopped. What is finished is kept, and the same command goes on from there.")
        return 128 + (signal.SIGTERM if isinstance(e, Terminated) else signal.SIGINT)
    except UnderstudyError as e:
        _explain(e, str(e), debug)
        return e.exit_code
    except _BrokenPipe as e:
        return _broken_pipe(e, debug)
    except Exception as e:
        return _lost_server(debug) or _bug(e, debug)
    return 0


def _lost_server(debug: bool) -> int:
    """The exit code where a run failed since Prefect's server is gone, 0 where that is not the reason."""
    if "flows.server" not in sys.modules:
        return 0
    from flows.server import require_reachable

    try:
        require_reachable()
    except UnderstudyError as e:
        _explain(e, str(e), debug)
        return e.exit_code
    return 0


def _broken_pipe(error: _BrokenPipe, debug: bool) -> int:
    """End quietly if it was our own output whose reader has gone, as with `| head`."""
    if not saying.has_no_reader():
        return _bug(error, debug)
    saying.forget_output()
    return _NO_READER


def _bug(error: Exception, debug: bool) -> int:
    """The last resort: a sentence, and how to see more."""
    _explain(error, f"{type(error).__name__}: {error} (this is a bug; --debug shows where)", debug)
    return 1


def _explain(error: BaseException, sentence: str, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    for line in sentence.splitlines():
        saying.tell(line, "ERROR")
