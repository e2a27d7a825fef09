"""How the command line speaks: in sentences for people, or in JSON lines for machines (--log-format json)."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import select
import sys
from datetime import UTC, datetime
from typing import Literal, TextIO

from core.errors import UserError

Format = Literal["text", "json"]
_format: Format = "text"


def use(format: Format) -> None:
    """Speak so from now on."""
    global _format
    _format = format


def in_json() -> bool:
    """Whether machines are spoken to."""
    return _format == "json"


def formatter() -> logging.Formatter:
    """For log lines on the terminal: level and words, or one object with time, level, logger and message."""
    if not in_json():
        return logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")
    from pythonjsonlogger.json import JsonFormatter

    return JsonFormatter(
        "{levelname}{name}{message}",
        style="{",
        rename_fields={"levelname": "level", "name": "logger"},
        timestamp="time",
        json_ensure_ascii=not _is_utf8(sys.stderr),
    )


def use_any_console() -> None:
    """Let the console show a replacement where it has no such character, instead of failing.

    Texts hold any character, and consoles may be Latin-1, a Windows code page or ASCII.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def show(words: str) -> None:
    """A line on standard output for people."""
    # Not click.echo, which sends UTF-8 to an ASCII console.
    print(words, flush=True)


def data_output() -> TextIO:
    """Standard output for data, which is UTF-8 with plain line ends whatever the console is.

    Raises UserError where it is closed.
    """
    if sys.stdout is None:
        raise UserError("standard output is closed; name a file with --output")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="strict", newline="\n")
    return sys.stdout


def tell(words: str, level: Literal["INFO", "ERROR"] = "INFO") -> None:
    """A line on stderr that is no log line: why a command ended, how to go on."""
    if in_json():
        now = datetime.now(UTC).isoformat()
        values = {"level": level, "logger": "understudy", "message": words, "time": now}
        line = json.dumps(values, ensure_ascii=not _is_utf8(sys.stderr))
    else:
        line = f"error: {words}" if level == "ERROR" else words
    with contextlib.suppress(BrokenPipeError):  # nobody reads it any more
        print(line, file=sys.stderr, flush=True)


def has_no_reader() -> bool:
    """Whether whoever read our standard output has gone, as `head` does once it has its lines."""
    if sys.stdout is None:
        return False
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (OSError, ValueError):  # it is no file
        return False


def forget_output() -> None:
    """Send to nowhere what is still to be written, so that Python's own end says nothing of it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _is_utf8(stream: TextIO | None) -> bool:
    return (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"
