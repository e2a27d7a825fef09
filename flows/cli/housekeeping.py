"""`understudy ls`, `rm`, `gc` and `checkpoints`: list and remove runs, objects and saved checkpoints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from flows.cli import console
from flows.cli.options import root_option

if TYPE_CHECKING:
    from core.engines import CheckpointServer

_ROOT = root_option("A folder or s3:// URL.")


@click.command("ls")
@_ROOT
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with every field.")
def list_runs(root: str, as_json: bool) -> None:
    """List the runs under a root: state, size, and the student's metrics on test."""
    from core.store.objects import Store
    from core.summary import listing

    entries = listing.list_runs(Store.at(root))
    if as_json:
        for entry in entries:
            console.show(json.dumps(asdict(entry), allow_nan=False))
        return
    if not entries:
        console.show(f"no runs under {root}")
        return
    head = ("run", "state", "at", "size", "step", "macro-F1", "AUROC", "log loss", "")
    rows = []
    for e in entries:
        step = "-" if e.best_step is None else str(e.best_step)
        values = [e.metrics.get(name) for name in ("macro_f1", "auroc", "log_loss")]
        numbers = ["-" if value is None else f"{value:.3f}" for value in values]
        latest = "latest" if e.latest else ""
        rows.append((e.name, e.state, e.at or "-", console.size(e.bytes), step, *numbers, latest))
    console.show_table(head, rows)


@click.command("rm")
@click.argument("run")
@_ROOT
@click.option(
    "--force", is_flag=True, help="Even if model/latest.json names it, or it belongs to earlier scripts."
)
def remove(run: str, root: str, force: bool) -> None:
    """Remove RUN's folder and the pointers to it; `understudy gc` then frees what only it used."""
    from core.store.objects import Store
    from core.summary.listing import remove_run

    for what in remove_run(Store.at(root), run, force=force):
        console.show(f"removed {what}")


@click.command("gc")
@_ROOT
@click.option("--delete", is_flag=True, help="Remove it; without this, only say what would go.")
@click.option(
    "--grace",
    "hours",
    default=24.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Hours; nothing younger is touched.",
)
def collect_garbage(root: str, delete: bool, hours: float) -> None:
    """Find objects that no run and no pointer refers to, and files that killed runs left."""
    from core.store import collecting
    from core.store.objects import Store

    store = Store.at(root)  # not `open`, whose probe a full disk would refuse
    garbage = collecting.find_garbage(store, hours * 3600)
    for (stage, key), files in sorted(garbage.objects.items()):
        console.show(f"{console.size(sum(f.bytes for f in files)):>9}  {stage} {key[:12]}")
    if delete:
        garbage = collecting.collect(store, garbage)
        store.copies.sweep(
            {"/".join(f.path.split("/")[:4]) for f in store.backend.list("objects")}, hours * 3600
        )
    if garbage.young:
        console.show(f"{garbage.young} objects that nothing refers to are younger than {hours:g} h and stay")
    done = "removed" if delete else "would be removed (--delete does it)"
    console.show(
        f"{len(garbage.objects)} objects and {len(garbage.leftovers)} files left behind, "
        f"{console.size(garbage.bytes)}: {done}"
    )


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
    if not found:
        console.show("no checkpoints")
        return
    head = ("kind", "step", "size", "created", "expires", "path")
    rows = []
    for each in found:
        step = "-" if each.step is None else str(each.step)
        size = "-" if each.bytes is None else console.size(each.bytes)
        expires = "never" if each.expires is None else f"{each.expires:%Y-%m-%d %H:%M}"
        rows.append((each.kind, step, size, f"{each.created:%Y-%m-%d %H:%M}", expires, each.location))
    console.show_table(head, rows)


@checkpoints.command("rm")
@click.argument("paths", nargs=-1, required=True)
@_ENGINE
@_SERVER
@root_option("The root whose pointers are checked first.")
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
            console.show(f"removed {path}")


@contextmanager
def _opened(kind: str, server: str | None) -> Iterator[CheckpointServer]:
    from core.config.engine import ENGINES
    from core.engines import CheckpointServer
    from core.errors import UserError

    engine = ENGINES.get(kind).for_server(server).open("")
    if not isinstance(engine, CheckpointServer):
        raise UserError(f"engine {kind} has no checkpoints on a server")
    engine.require_credentials()
    try:
        yield engine
    finally:
        engine.close()
