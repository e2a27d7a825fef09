"""Output of the command line: text for people or JSON lines for programs (--log-format json), and tables."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import select
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal, TextIO

from core.errors import UserError

Format = Literal["text", "json"]
_format: Format = "text"


def use(format: Format) -> None:
    global _format
    _format = format


def in_json() -> bool:
    return _format == "json"


def formatter() -> logging.Formatter:
    """For log lines: level and text, or one object with time, level, logger and message."""
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
    """Standard output for data: UTF-8 with plain line ends whatever the console is.

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
    """Whether the reader of standard output has gone, as `head` does once it has its lines."""
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
    """Bytes for people: 12 B, 3.4 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with columns as wide as their widest cell."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in [head, *rows]]
    return [line.rstrip() for line in lines]
