"""`understudy reinforce`: a student learns from what its own answers earn."""

from __future__ import annotations

from pathlib import Path

import click

from flows.cli import saying
from flows.cli.preparing import check_place, prepare


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key: reinforce.steps=50."
)
@click.option(
    "--from",
    "start",
    metavar="RUN",
    help="A run whose published student to begin with, latest, or base; by default CONFIG's own run.",
)
@click.option("--plan", is_flag=True, help="Say what it would sample, train and cost, and do nothing.")
@click.option("--refresh", multiple=True, metavar="STAGE", help="Make this stage again.")
@click.option("--replace", is_flag=True, help="Replace an earlier reinforcement of the run that differs.")
@click.pass_obj
def reinforce(
    debug: bool,
    config: Path,
    overrides: tuple[str, ...],
    start: str | None,
    plan: bool,
    refresh: tuple[str, ...],
    replace: bool,
) -> None:
    """Reinforce the student of CONFIG's run by rewards for its own answers, as `reinforce:` says."""
    from core.config.loading import load
    from core.pipeline.switches import switches

    resolved = load(config, overrides)
    switches(resolved.config.stages, (), (), refresh)
    check_place(resolved, new=False)
    if plan:
        from core.pipeline.planning import describe_reinforcement

        saying.show(describe_reinforcement(resolved, start))
        return
    prepare(resolved, debug)
    from flows.reinforce import reinforce

    report = reinforce(resolved.as_parameter(), None, start, list(refresh), replace)
    saying.show(f"Done. Look at {report}")
