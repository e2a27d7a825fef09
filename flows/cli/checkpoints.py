"""`understudy checkpoints ls|rm`: list and remove checkpoints on a training server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from flows.cli import saying
from flows.cli.locating import root_option
from flows.cli.tables import shown_size, table

if TYPE_CHECKING:
    from core.engines.base import CheckpointServer, RemoteCheckpoint

_ENGINE = click.option(
    "--engine", "kind", default="tinker", show_default=True, help="Which engine saved them."
)
_SERVER = click.option(
    "--server", default=None, help="The server's address; by default as in a config of the engine."
)


@click.group("checkpoints")
def checkpoints() -> None:
    """List and remove checkpoints on a training server; a Tinker server's key is in TINKER_API_KEY."""


@checkpoints.command("ls")
@_ENGINE
@_SERVER
@click.option("--all", "everything", is_flag=True, help="Those that this project did not name, too.")
def list_checkpoints(kind: str, server: str | None, everything: bool) -> None:
    """List the checkpoints that runs of this project saved, the latest first."""
    with _opened(kind, server) as engine:
        found = [each for each in engine.checkpoints() if everything or each.step is not None]
    for line in _table(found) if found else ["there are no checkpoints"]:
        saying.show(line)


@checkpoints.command("rm")
@click.argument("paths", nargs=-1, required=True)
@_ENGINE
@_SERVER
@root_option("Whose pointers are looked at first.")
@click.option("--force", is_flag=True, help="Even if a pointer under the root names it.")
def remove_checkpoints(paths: tuple[str, ...], kind: str, server: str | None, root: str, force: bool) -> None:
    """Remove the checkpoints at PATHS (tinker://...)."""
    from core.errors import UserError
    from core.store import pointers
    from core.store.objects import Store

    store = Store.at(root)
    named = {
        value: name
        for name in pointers.names(store)
        for value in (pointers.read(store, name) or {}).values()
        if isinstance(value, str)
    }
    for path in paths:
        if path in named and not force:
            raise UserError(
                f"{path} is named by model/{named[path]}.json; add --force to remove it all the same"
            )
    with _opened(kind, server) as engine:
        for path in paths:
            engine.remove(path)
            saying.show(f"removed {path}")


@contextmanager
def _opened(kind: str, server: str | None) -> Iterator[CheckpointServer]:
    from core.config.engine import ENGINES
    from core.engines.base import CheckpointServer
    from core.errors import UserError

    engine = ENGINES.get(kind).for_server(server).open("")
    if not isinstance(engine, CheckpointServer):
        raise UserError(f"engine {kind} has no checkpoints on a server")
    engine.require_credentials()
    try:
        yield engine
    finally:
        engine.close()


def _table(found: list[RemoteCheckpoint]) -> list[str]:
    head = ("kind", "step", "size", "made", "until", "path")
    rows = [
        (
            each.kind,
            "-" if each.step is None else str(each.step),
            "-" if each.bytes is None else shown_size(each.bytes),
            f"{each.created:%Y-%m-%d %H:%M}",
            "ever" if each.expires is None else f"{each.expires:%Y-%m-%d %H:%M}",
            each.location,
        )
        for each in found
    ]
    return table(head, rows)
