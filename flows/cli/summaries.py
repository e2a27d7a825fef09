"""`understudy summary` and `compare`: tables of all runs, and two runs text by text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from flows.cli import console
from flows.cli.options import local_output, root_option

if TYPE_CHECKING:
    from core.records import SplitName
    from core.summary.files import Modes
    from core.summary.tables import Format

_ROOT = root_option("A folder or s3:// URL that contains runs/.")


@click.command("summary")
@_ROOT
@click.option("--output", callback=local_output, help="By default summary.csv or summary.html.")
@click.option(
    "--mode",
    type=click.Choice(("reasoning", "label_only", "both")),
    default="both",
    show_default=True,
    help="Metrics of the student with reasoning, with the label-only prompt, or both.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(("csv", "tidy", "html")),
    default="csv",
    show_default=True,
    help="csv: one table each for train, val and test; tidy: one CSV table with a row per run, split and "
    "mode, with intervals, cost, model and commit; html: a page.",
)
def summary(root: str, output: Path | None, mode: Modes, format_: Format) -> None:
    """Put the metrics of all runs under a root into one file."""
    from core.report.text import plural
    from core.store.objects import Store
    from core.summary.tables import default_path, save, summarize_runs

    found, text = summarize_runs(Store.at(root), mode, format_)
    for each in found.skipped:
        console.message(f"warning: {each.place}: {each.why}")
    path = save(text, output or default_path(format_)) if found.rows else None
    if path is None:
        console.show(f"no runs with metrics under {root} (in its folder runs/); nothing was written")
    else:
        console.show(f"wrote {path}: {plural(found.runs, 'run')}, {plural(len(found.rows), 'row')}")
    if found.skipped:
        warnings = plural(len(found.skipped), "warning")
        console.show(f"{warnings}: these were skipped, or have empty cells")


@click.command("compare")
@click.argument("a")
@click.argument("b")
@_ROOT
@click.option(
    "--split",
    type=click.Choice(("train", "val", "test")),
    default="test",
    show_default=True,
    help="The split to compare.",
)
@click.option(
    "--output",
    callback=local_output,
    help="Folder for comparison.json, changed.csv (all texts that either run gets wrong) and left_out.csv.",
)
def compare(a: str, b: str, root: str, split: SplitName, output: Path | None) -> None:
    """Compare the decisions of run A and run B text by text: fixed, broken, both wrong, both right."""
    from core.store.objects import Store
    from core.summary.comparing import compare_runs, lines, read_predictions, write

    store = Store.at(root)
    found = compare_runs(read_predictions(store, a, split), read_predictions(store, b, split))
    for line in lines(found):
        console.show(line)
    for path in write(output, found) if output is not None else ():
        console.show(f"wrote {path}")
