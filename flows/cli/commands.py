"""The command `understudy`: its group of commands, and the exit code and message of every error."""

from __future__ import annotations

import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

import click

from core.errors import UnderstudyError
from flows import environment
from flows.cli import console, housekeeping, pipelines
from flows.cli.predicting import predict
from flows.cli.scaffolding import init


class _BrokenPipe(Exception):
    """A BrokenPipeError of a command: click itself would end silently at it."""


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
def cli(context: click.Context, debug: bool, log_format: console.Format) -> None:
    """Turn a written policy and labeled texts into a small model that applies the policy."""
    context.obj = debug
    console.use(log_format)


_RESUMABLE = (
    pipelines.run,
    pipelines.baseline,
    pipelines.evaluate,
    pipelines.reinforce,
    pipelines.sweep,
    predict,
)
_OTHERS = (
    init,
    pipelines.plan,
    pipelines.serve,
    housekeeping.list_runs,
    housekeeping.publish,
    housekeeping.remove,
    housekeeping.collect_garbage,
    housekeeping.summary,
    housekeeping.compare,
    housekeeping.checkpoints,
    pipelines.publish_dataset,
    pipelines.automations,
    housekeeping.import_config,
)
for _command in (*_RESUMABLE, *_OTHERS):
    cli.add_command(_command)

_NO_READER = 128 + signal.SIGPIPE
"""The exit code of programs that write to a pipe whose reader has gone."""


def main(arguments: list[str] | None = None) -> None:
    """Run a command; exits with 2 for the user's mistakes and 1 for failures."""
    given = sys.argv[1:] if arguments is None else arguments
    console.use_any_console()
    code = _guarded(lambda: cli.main(args=arguments, standalone_mode=False), debug="--debug" in given)
    resumable = {command.name for command in _RESUMABLE}
    if code not in (0, 2, _NO_READER) and next((a for a in given if a in cli.commands), "") in resumable:
        console.message(f"To continue: {shlex.join(['understudy', *given])}")
    sys.exit(code)


class Terminated(BaseException):
    """SIGTERM, after which a command ends in an orderly way, as after Ctrl-C.

    Not a KeyboardInterrupt, which click would turn into its own.
    """


def _guarded(command: Callable[[], object], *, debug: bool) -> int:
    """Call a command and return the exit code; errors are explained on stderr."""

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, terminate)
    try:
        command()
    except click.exceptions.Exit as e:
        return e.exit_code
    except click.ClickException as e:
        e.show(sys.stderr)
        return 2
    except (KeyboardInterrupt, click.Abort, Terminated) as e:
        console.message("Stopped. Finished stages are kept, and the same command continues from there.")
        return 128 + (signal.SIGTERM if isinstance(e, Terminated) else signal.SIGINT)
    except UnderstudyError as e:
        _explain(e, str(e), debug)
        return e.exit_code
    except _BrokenPipe as e:
        if not console.has_no_reader():
            return _bug(e, debug)
        console.discard_output()  # our own reader has gone, as with `| head`
        return _NO_READER
    except Exception as e:
        try:  # a run whose server is gone fails with any error
            if "prefect" in sys.modules:
                environment.require_reachable()
        except UnderstudyError as lost:
            _explain(lost, str(lost), debug)
            return lost.exit_code
        return _bug(e, debug)
    return 0


def _bug(error: Exception, debug: bool) -> int:
    _explain(error, f"{type(error).__name__}: {error} (this is a bug; --debug shows where)", debug)
    return 1


def _explain(error: BaseException, text: str, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    for line in text.splitlines():
        console.message(line, "ERROR")
