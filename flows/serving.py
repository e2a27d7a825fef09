"""One box that serves: its runs wait for each other in this process's directory."""

from __future__ import annotations

import asyncio
import signal

from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.runner import Runner
from prefect.types.entrypoint import EntrypointType
from pydantic import ValidationError

from core.config.loading import ResolvedConfig
from core.errors import UserError
from flows.distill import distill
from flows.server import connected


def serve_config(resolved: ResolvedConfig, cron: str | None = None) -> None:
    """Serve the deployment `distill/<run.name>` until Ctrl-C or SIGTERM.

    Both signals cancel the active run, wait for it and pause the schedule. Raises UserError without a
    server or for an invalid cron line.
    """
    runner = Runner(pause_on_shutdown=True, limit=1)
    made = deployment(resolved, cron)
    with connected() as client:
        client.read_flows(limit=1)
    runner.add_deployment(made)
    before = signal.signal(signal.SIGINT, runner.handle_sigterm)
    try:
        asyncio.run(runner.start())
    finally:
        signal.signal(signal.SIGINT, before)


def deployment(resolved: ResolvedConfig, cron: str | None = None) -> RunnerDeployment:
    """The distill flow with a config as its default, one run at a time."""
    if cron is not None:
        _check(cron)
    made = distill.to_deployment(
        name=resolved.run_name,
        cron=cron,
        parameters={"config": resolved.config.model_dump(mode="json", exclude_unset=True)},
        tags=["understudy"],
        concurrency_limit=ConcurrencyLimitConfig(
            limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE
        ),
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    assert isinstance(made, RunnerDeployment)
    return made


def _check(cron: str) -> None:
    try:
        CronSchedule(cron=cron)
    except ValidationError:
        raise UserError(
            f"--cron {cron!r} is no cron line; it has minute, hour, day, month and weekday, as in '0 2 * * *'"
        ) from None
