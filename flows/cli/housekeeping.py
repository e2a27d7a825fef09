"""`understudy ls`, `rm` and `gc`: what is under a root, and making room."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from flows.cli import saying
from flows.cli.locating import root_option
from flows.cli.tables import shown_size, table

if TYPE_CHECKING:
    from core.summary.listing import RunEntry

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
            saying.show(json.dumps(asdict(entry), allow_nan=False))
        return
    for line in _table(entries) if entries else [f"there are no runs under {root}"]:
        saying.show(line)


@click.command("rm")
@click.argument("run")
@_ROOT
@click.option(
    "--force",
    is_flag=True,
    help="Even if model/latest.json names it, or earlier scripts made it.",
)
def remove(run: str, root: str, force: bool) -> None:
    """Remove RUN's folder and the pointers to it; `understudy gc` then frees what only it used."""
    from core.store.objects import Store
    from core.summary.listing import remove_run

    for what in remove_run(Store.at(root), run, force=force):
        saying.show(f"removed {what}")


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
    """Find objects that no run and no pointer refers to, and what killed runs left behind."""
    from core.store import collecting
    from core.store.objects import Store

    store = Store.at(root)  # not `open`, whose probe a full disk would refuse
    garbage = collecting.find_garbage(store, hours * 3600)
    for (stage, key), files in sorted(garbage.objects.items()):
        saying.show(f"{shown_size(sum(f.bytes for f in files)):>9}  {stage} {key[:12]}")
    if delete:
        garbage = collecting.collect(store, garbage)
        store.copies.sweep(
            {"/".join(f.path.split("/")[:4]) for f in store.backend.list("objects")}, hours * 3600
        )
    if garbage.young:
        saying.show(f"{garbage.young} objects that nothing refers to are younger than {hours:g} h and stay")
    said = "removed" if delete else "would be removed (--delete does it)"
    saying.show(
        f"{len(garbage.objects)} objects and {len(garbage.leftovers)} files left behind, "
        f"{shown_size(garbage.bytes)}: {said}"
    )


def _table(entries: list[RunEntry]) -> list[str]:
    head = ("run", "state", "at", "size", "step", "macro-F1", "AUROC", "log loss", "")
    rows = [
        (
            e.name,
            e.state,
            e.at or "-",
            shown_size(e.bytes),
            "-" if e.best_step is None else str(e.best_step),
            *(_number(e.metrics.get(name)) for name in ("macro_f1", "auroc", "log_loss")),
            "latest" if e.latest else "",
        )
        for e in entries
    ]
    return table(head, rows)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
