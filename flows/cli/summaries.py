"""`understudy summary` and `compare`: tables across runs, and two runs text by text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from core.summary.collecting import Collected
    from core.summary.output import Format

_ROOT = click.option(
    "--root", default="artifacts", show_default=True, help="A folder or s3:// URL that holds runs/."
)


@click.command("summary")
@_ROOT
@click.option("--output", type=click.Path(path_type=Path), help="By default summary.csv or summary.html.")
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
def summary(root: str, output: Path | None, mode: str, format_: Format) -> None:
    """Put the metrics of all runs under a root into one file."""
    from core.store.objects import Store
    from core.summary.output import save, summarise

    found, text = summarise(Store.at(root), mode, format_)
    for each in found.passed:
        click.echo(f"warning: {each.place}: {each.why}", err=True)
    for line in _told(found, root, save(text, output, format_) if found.rows else None):
        click.echo(line)


def _told(found: Collected, root: str, path: Path | None) -> list[str]:
    if path is None:
        said = f"there are no runs with metrics under {root} (in its folder runs/), so nothing is written"
    else:
        said = f"wrote {path}: {_number(found.runs, 'run')}, {_number(len(found.rows), 'row')}"
    passed = len(found.passed)
    return [said, *([f"{_number(passed, 'warning')}: what is named there was passed over"] if passed else [])]


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
