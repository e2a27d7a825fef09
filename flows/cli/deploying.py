"""`understudy serve`, `publish-dataset` and `automations`: commands for a Prefect server."""

from __future__ import annotations

import os
from pathlib import Path

import click

from flows.cli import console
from flows.cli.options import config_argument, set_option
from flows.cli.runs import Request, check_place


@click.command()
@config_argument
@set_option()
@click.option("--cron", metavar="LINE", help="Run at these times: '0 2 * * *' is every night at two.")
def serve(config: Path, overrides: tuple[str, ...], cron: str | None) -> None:
    """Serve CONFIG on this machine: Prefect's server starts its runs here, one at a time, until Ctrl-C."""
    resolved, _ = Request(config, overrides).check()
    from flows import environment

    environment.check_prefect_settings()
    from flows.server import address

    address()
    check_place(resolved, new=False)
    from flows.deploy import serve_config

    served = f"distill/{resolved.run_name}"
    console.show(f"Serving {served}: `prefect deployment run {served}` starts a run, Ctrl-C ends this.")
    serve_config(resolved, cron)


@click.command("publish-dataset")
@click.argument("path")
@click.option("--name", help="Name of the dataset; by default the file's name without endings.")
def publish_dataset(path: str, name: str | None) -> None:
    """Announce the table at PATH, a file or URL, to Prefect's server, where a trigger may start a run on it.

    Workers have to find it under the same path.
    """
    from core.data.sources import published_table
    from flows import environment

    environment.prepare()
    environment.check_prefect_settings()
    from flows.deploy import EVENT, RESOURCE, publish
    from flows.server import address

    address()
    table = published_table(path, name)
    publish(table)
    console.show(f"published {RESOURCE}{table.name} as {EVENT}: {table.path}, sha256 {table.sha256}")


@click.group("automations")
def automations() -> None:
    """Automations of Prefect's server for this project's runs."""


@automations.command("apply")
@click.option(
    "--webhook-env",
    metavar="NAME",
    help="The environment variable with the URL to call when a run fails; without it, no URL is called.",
)
@click.option(
    "--heartbeat",
    type=click.IntRange(min=30),
    metavar="SECONDS",
    help="Between two heartbeats of a run; by default PREFECT_FLOWS_HEARTBEAT_FREQUENCY, 180.",
)
def apply_automations(webhook_env: str | None, heartbeat: int | None) -> None:
    """Create or update them: a run without a heartbeat is marked Crashed, a failed run calls a webhook."""
    from core.errors import UserError
    from flows import environment

    environment.prepare()
    environment.check_prefect_settings()
    from flows.deploy import apply

    url = os.environ.get(webhook_env) if webhook_env else None
    if webhook_env and not url:
        raise UserError(f"--webhook-env {webhook_env}: this environment variable contains no URL")
    for line in apply(heartbeat, url):
        console.show(line)
