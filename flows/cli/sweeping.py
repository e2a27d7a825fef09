"""`understudy sweep`: arms of one config, one after another, and one report of all."""

from __future__ import annotations

from pathlib import Path

import click

from flows.cli import saying
from flows.cli.preparing import check_place, prepare


@click.command("sweep")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change the base config of all arms."
)
@click.option("--plan", "only_plan", is_flag=True, help="Say what would run and what is reused; run nothing.")
@click.option("--new", is_flag=True, help="Begin an arm's name anew if it stands for another config.")
@click.pass_obj
def sweep(debug: bool, file: Path, overrides: tuple[str, ...], only_plan: bool, new: bool) -> None:
    """Run every arm that FILE names, then compare them on the same rows in one report."""
    from core.sweep.arms import load_sweep

    of = load_sweep(file, overrides)
    if only_plan:
        from core.pipeline.planning import describe_sweep

        saying.show(describe_sweep(of))
        return
    for arm in of.arms:
        check_place(arm.resolved, new=new)
    prepare(of.arms[0].resolved, debug)
    from flows.sweep import sweep as carry_out

    saying.show(f"Done. Look at {carry_out(str(file), list(overrides), new)}")
