"""`understudy publish-dataset` and `automations`: what a Prefect server is told."""

from __future__ import annotations

import os

import click

from flows.cli import saying


@click.command("publish-dataset")
@click.argument("path")
@click.option("--name", help="What it is called; by default what its file is, without endings.")
def publish_dataset(path: str, name: str | None) -> None:
    """Tell Prefect's server of the table at PATH, a file or URL; a deployment's trigger starts a run on it.

    Workers have to find it under the same path.
    """
    from core.data.publishing import published_table
    from flows import environment

    environment.prepare()
    environment.check_prefect_settings()
    from flows.publishing import EVENT, RESOURCE, publish
    from flows.server import address

    address()
    table = published_table(path, name)
    publish(table)
    saying.show(f"published {RESOURCE}{table.name} as {EVENT}: {table.path}, sha256 {table.sha256}")


@click.group("automations")
def automations() -> None:
    """What Prefect's server does by itself about this project's runs."""


@automations.command("apply")
@click.option(
    "--webhook-env",
    metavar="NAME",
    help="The environment variable that holds the URL to call when a run fails; without it nobody is called.",
)
@click.option(
    "--heartbeat",
    type=click.IntRange(min=30),
    metavar="SECONDS",
    help="Between two signs of life of a run; by default PREFECT_FLOWS_HEARTBEAT_FREQUENCY, 180.",
)
def apply_automations(webhook_env: str | None, heartbeat: int | None) -> None:
    """Make or mend them: a run without a sign of life is marked Crashed, a failed run calls a webhook."""
    from core.errors import UserError
    from flows import environment

    environment.prepare()
    environment.check_prefect_settings()
    from flows.automations import apply

    url = os.environ.get(webhook_env) if webhook_env else None
    if webhook_env and not url:
        raise UserError(f"--webhook-env {webhook_env}: this environment variable holds no URL")
    for line in apply(heartbeat, url):
        saying.show(line)
