"""Options that several commands have; misspelled locations raise UserError, which names the option."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from core import locations
from core.predict.options import STANDARD

_Command = TypeVar("_Command", bound=Callable[..., Any] | click.Command)

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
