"""`understudy summary` and `compare`: tables across runs, and two runs text by text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from flows.cli import saying
from flows.cli.locating import local_output, root_option

if TYPE_CHECKING:
    from core.records import SplitName
    from core.summary.collecting import Collected
    from core.summary.files import Modes
    from core.summary.tables import Format

_ROOT = root_option("A folder or s3:// URL that holds runs/.")


@click.command("summary")
@_ROOT
@click.option("--output", callback=local_output, help="By default summary.csv or summary.html.")
@click.option(
    "--mode",
    type=click.Choice(("reasoning", "label_only", "both")),
    default="both",
    show_default=True,
    help="Whose metrics: of the student with reasons, with the label-only prompt, or of both.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(("csv", "tidy", "html")),
    default="csv",
    show_default=True,
    help="csv: a table each for train, val and test; tidy: a CSV with a row a run, split and mode, with "
    "intervals, cost, model and commit; html: these as a page.",
)
def summary(root: str, output: Path | None, mode: Modes, format_: Format) -> None:
    """Put the metrics of all runs under a root into one file."""
    from core.store.objects import Store
    from core.summary.tables import default_path, save, summarize_runs

    found, text = summarize_runs(Store.at(root), mode, format_)
    for each in found.skipped:
        saying.tell(f"warning: {each.place}: {each.why}")
    path = save(text, output or default_path(format_)) if found.rows else None
    for line in _conclusion(found, root, path):
        saying.show(line)


@click.command("compare")
@click.argument("a")
@click.argument("b")
@_ROOT
@click.option(
    "--split",
    type=click.Choice(("train", "val", "test")),
    default="test",
    show_default=True,
    help="Of which.",
)
@click.option(
    "--output",
    callback=local_output,
    help="A folder for comparison.json, changed.csv (all texts that either run gets wrong) and left_out.csv.",
)
def compare(a: str, b: str, root: str, split: SplitName, output: Path | None) -> None:
    """Compare the decisions of run A and run B text by text: fixed, broken, both wrong, both right."""
    from core.store.objects import Store
    from core.summary.comparing import changes, lines, pair, read_predictions, write

    store = Store.at(root)
    found = changes(pair(read_predictions(store, a, split), read_predictions(store, b, split)))
    for line in lines(found):
        saying.show(line)
    for path in write(output, found) if output is not None else ():
        saying.show(f"wrote {path}")


def _conclusion(found: Collected, root: str, path: Path | None) -> list[str]:
    if path is None:
        lines = [f"there are no runs with metrics under {root} (in its folder runs/); nothing was written"]
    else:
        lines = [f"wrote {path}: {_number(found.runs, 'run')}, {_number(len(found.rows), 'row')}"]
    if found.skipped:
        lines.append(f"{_number(len(found.skipped), 'warning')}: these were skipped, or have empty cells")
    return lines


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
