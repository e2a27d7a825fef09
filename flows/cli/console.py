"""What the commands share: output as text for people or JSON lines for programs (--log-format), and options.

Options for locations raise UserError, which names the option, for a misspelled one.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import os
import select
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TextIO, TypeVar

import click

from core import locations
from core.errors import UserError
from core.predict import STANDARD

Format = Literal["text", "json"]
_format: Format = "text"
_Command = TypeVar("_Command", bound=Callable[..., Any] | click.Command)


def use(format: Format) -> None:
    global _format
    _format = format


def in_json() -> bool:
    return _format == "json"


def start_log(level: str, *, debug: bool = False) -> None:
    """Write the log to the terminal from `level` on, and show progress bars on terminals."""
    from core import progress
    from core.progress import LOGGERS

    progress.allowed = not in_json()
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")
    if in_json():
        from pythonjsonlogger.json import JsonFormatter

        formatter = JsonFormatter(
            "{levelname}{name}{message}",
            style="{",
            rename_fields={"levelname": "level", "name": "logger"},
            timestamp="time",
            json_ensure_ascii=not _is_utf8(sys.stderr),
        )
    handler = _Terminal(tracebacks=debug)
    handler.setFormatter(formatter)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel("DEBUG" if debug else level)
        for old in [h for h in logger.handlers if isinstance(h, _Terminal)]:
            logger.removeHandler(old)
        logger.addHandler(handler)
        logger.propagate = False
    logging.captureWarnings(True)


class _Terminal(logging.Handler):
    """Writes to the present stderr; tracebacks only if they are asked for."""

    def __init__(self, *, tracebacks: bool) -> None:
        super().__init__()
        self.tracebacks = tracebacks

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; none for progress that a bar shows."""
        from core import progress

        if record.name == progress.__name__ and progress.on_terminal():
            return
        if record.exc_info and not self.tracebacks:
            record = copy.copy(record)
            record.exc_info = record.exc_text = None
        # A terminal that has gone must not end a run; train.log has its lines.
        with progress.without_bars(), contextlib.suppress(BrokenPipeError):
            print(self.format(record), file=sys.stderr)


def use_any_console() -> None:
    """Let the console show a replacement for characters that it cannot encode, instead of failing.

    Texts contain any character, and consoles may be Latin-1, a Windows code page or ASCII.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def show(text: str) -> None:
    # Not click.echo, which sends UTF-8 to an ASCII console.
    print(text, flush=True)


def data_output() -> TextIO:
    """Return standard output for data: UTF-8 with plain line ends on any console.

    Raises UserError if it is closed.
    """
    if sys.stdout is None:
        raise UserError("standard output is closed; name a file with --output")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="strict", newline="\n")
    return sys.stdout


def message(text: str, level: Literal["INFO", "ERROR"] = "INFO") -> None:
    """Print a line on stderr that is not from the log: why a command ended, how to continue."""
    if in_json():
        now = datetime.now(UTC).isoformat()
        values = {"level": level, "logger": "understudy", "message": text, "time": now}
        line = json.dumps(values, ensure_ascii=not _is_utf8(sys.stderr))
    else:
        line = f"error: {text}" if level == "ERROR" else text
    with contextlib.suppress(BrokenPipeError):  # nobody reads it
        print(line, file=sys.stderr, flush=True)


def has_no_reader() -> bool:
    """Return whether the reader of standard output has gone, as `head` does once it has its lines."""
    if sys.stdout is None:
        return False
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (OSError, ValueError):  # not a file
        return False


def discard_output() -> None:
    """Discard what is still to be written, so that Python prints no error at its exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _is_utf8(stream: TextIO | None) -> bool:
    return (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"


def size(count: float) -> str:
    """Return bytes for people: 12 B, 3.4 MB."""
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB"):
        count /= 1000
        if count < 1000:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:.1f} GB"


def show_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print lines with columns as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        show("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip())


config_argument = click.argument("config", type=click.Path(path_type=Path))
refresh_option = click.option("--refresh", multiple=True, metavar="STAGE", help="Build this stage again.")


def set_option(text: str = "Override a key: student.epochs=2.") -> Callable[[_Command], _Command]:
    return click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help=text)


def root_option(text: str) -> Callable[[_Command], _Command]:
    return click.option("--root", default="artifacts", show_default=True, callback=writable, help=text)


def _location(*, creates: bool) -> Callable[[click.Context, click.Parameter, str | None], str | None]:
    """Return a callback that checks a path or URL and passes it on as it was written."""

    def check(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
        if value not in (None, STANDARD):
            locations.normalized(value, option.opts[0], creates=creates)
        return value

    return check


readable, writable = _location(creates=False), _location(creates=True)


def local_output(context: click.Context, option: click.Parameter, value: str | None) -> Path | None:
    """Check a local path that a command writes to, and normalize it. A URL is rejected."""
    if value is None:
        return None
    return Path(locations.normalized(value, option.opts[0], creates=True, schemes=(), kind="a local path"))
