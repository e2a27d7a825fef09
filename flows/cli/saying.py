"""How the command line speaks: in sentences for people, or in JSON lines for machines (--log-format json)."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Literal

import click

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
        json_ensure_ascii=False,
    )


def tell(words: str, level: Literal["INFO", "ERROR"] = "INFO") -> None:
    """A line on stderr that is no log line: why a command ended, how to go on."""
    if in_json():
        now = datetime.now(UTC).isoformat()
        line = {"level": level, "logger": "understudy", "message": words, "time": now}
        click.echo(json.dumps(line, ensure_ascii=False), err=True)
    else:
        click.echo(f"error: {words}" if level == "ERROR" else words, err=True)
