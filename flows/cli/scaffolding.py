"""`understudy init`: a config, prompts, rules to fill in and an example of .env for a table."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.cli import console
from flows.cli.console import readable

if TYPE_CHECKING:
    from core.scaffold import Options, Project
    from core.scaffold.project import Teacher


@click.command("init")
@click.argument("table", callback=readable)
@click.option("--out", metavar="FOLDER", help="A new folder to write; default: the table's name.")
@click.option("--text-column", metavar="NAME", help="The column of the texts.")
@click.option("--label-column", metavar="NAME", help="The column of the labels.")
@click.option(
    "--positive", multiple=True, metavar="VALUE", help="A label that is positive; all others are negative."
)
@click.option(
    "--negative",
    multiple=True,
    metavar="VALUE",
    help="With --positive: one that is negative; not all others.",
)
@click.option("--label-threshold", type=float, metavar="N", help="Number from which on a label is positive.")
@click.option("--id-column", metavar="NAME", help="The column of ids; default: a hash of the text.")
@click.option("--group-column", metavar="NAME", help="Rows with the same value stay in one split.")
@click.option("--split-column", metavar="NAME", help="The column with train, val and test.")
@click.option("--encoding", metavar="NAME", help="Of the file, if it is not found: cp1251, shift-jis.")
@click.option("--separator", metavar="CHARACTER", help="Of the columns of a CSV, if it is not found.")
@click.option("--max-bad-rows", type=click.IntRange(min=0), default=0, help="Unusable rows to skip.")
@click.option(
    "--teacher",
    type=click.Choice(("gold", "deepseek", "openai")),
    default="gold",
    show_default=True,
    help="gold trains on the labels alone; the others ask a model that costs money.",
)
@click.option(
    "--model", metavar="MODEL", callback=readable, help="The base model; default: SmolLM2-135M-Instruct."
)
@click.option("--yes", is_flag=True, help="Ask nothing; what is unclear is an error.")
def init(
    table: str, out: str | None, teacher: Teacher, model: str | None, yes: bool, **given: object
) -> None:
    """Start a project from TABLE: find its format and columns, and write a config and what it needs.

    Only the beginning of a large table is read. On a terminal, unclear choices are asked for.
    """
    from core.scaffold import Options, write_project

    asks = not yes and sys.stdin.isatty() and sys.stdout.isatty()
    project = _planned(table, out, Options(**given), teacher, model, asks=asks)  # type: ignore[arg-type]
    width = max(len(name) for name, _ in project.findings)
    for name, finding in project.findings:
        console.show(f"{name:<{width}}  {finding}")
    folder = (
        Path(os.path.relpath(project.folder)) if project.folder.is_relative_to(Path.cwd()) else project.folder
    )
    if asks and not click.confirm(f"Write {', '.join(project.files)} to {folder}?", default=True):
        console.show("nothing was written")
        return
    write_project(project)
    console.show(f"wrote {folder}: {', '.join(project.files)}")
    if teacher != "gold":
        console.show(
            f"First write your policy into {folder / 'rules'}, and the key into .env or the environment."
        )
    console.show(f"Next: understudy run {shlex.quote(str(folder / 'config.yaml'))} --smoke 16")


def _planned(
    table: str, out: str | None, options: Options, teacher: Teacher, model: str | None, *, asks: bool
) -> Project:
    """The project, after unclear choices were asked for where that is possible."""
    from core.scaffold import Unclear, plan_project

    while True:
        try:
            return plan_project(table, out, options, teacher=teacher, model=model)
        except Unclear as e:
            if not asks:
                raise
            console.show(f"{e}.")
            kind = click.Choice(e.choices) if e.choices else float
            value = click.prompt(e.option.replace("_", " "), type=kind, show_choices=len(e.choices) <= 10)
            chosen: dict[str, Any] = {e.option: (value,) if e.option == "positive" else value}
            options = replace(options, **chosen)
