"""Deployments: serving a config, announcing datasets, and automations of Prefect's server for our runs.

Automations are applied as code: applying them twice leaves one of each.
"""

from __future__ import annotations

import asyncio
import signal
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy, StateType
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.events.actions import CallWebhook, ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import Event
from prefect.runner import Runner
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY
from prefect.types import SecretDict
from prefect.types.entrypoint import EntrypointType
from pydantic import SecretStr, ValidationError

from core.config import ResolvedConfig
from core.data.tables import PublishedTable
from core.errors import UserError
from flows.distill import distill
from flows.environment import connected

EVENT = "understudy.dataset.published"
RESOURCE = "understudy.dataset."

CRASHED = "understudy: no sign of life is a crash"
FAILED = "understudy: a failed run is told"
BLOCK = "understudy-failed-runs"
FLOWS = ("distill", "baseline", "evaluate", "summarize", "sweep", "reinforce", "predict", "predict-shards")
"""Our flows; those of others on a shared server are left alone."""
BEATS = 3
_SETTING = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
_BEAT = "prefect.flow-run.heartbeat"
_SILENT = ("Completed", "Failed", "Cancelled", "Crashed", "Paused", "Suspended", "AwaitingRetry")
"""States after which a run may be silent."""
_SERVERS_OWN: dict[str, Any] = {"id": True, "owner_resource": True, "trigger": {"id"}}
"""Fields of an automation that the server sets."""
_TEXT = (
    '{"text": {{ (flow.name ~ " " ~ flow_run.name ~ " is " ~ flow_run.state.name ~ ": "'
    ' ~ (flow_run.state.message or "")) | tojson }}, "flow_run": {{ (flow_run.id ~ "") | tojson }},'
    ' "url": {{ (flow_run | ui_url) | tojson }}}'
)
"""`text` is what chat services show; `url` is null where the server has no PREFECT_UI_URL."""


def serve_config(resolved: ResolvedConfig, cron: str | None = None) -> None:
    """Serve the deployment `distill/<run.name>` until Ctrl-C or SIGTERM.

    Both signals cancel the active run, wait for it and pause the schedule. Raises UserError without a
    server or for an invalid cron line.
    """
    served, runner = deployment(resolved, cron), Runner(pause_on_shutdown=True, limit=1)
    with connected() as client:
        client.read_flows(limit=1)
    runner.add_deployment(served)
    before = signal.signal(signal.SIGINT, runner.handle_sigterm)
    try:
        asyncio.run(runner.start())
    finally:
        signal.signal(signal.SIGINT, before)


def deployment(resolved: ResolvedConfig, cron: str | None = None) -> RunnerDeployment:
    """The distill flow with a config as its default, one run at a time."""
    if cron is not None:
        try:
            CronSchedule(cron=cron)
        except ValidationError:
            raise UserError(
                f"--cron {cron!r} is not a cron line, which has minute, hour, day, month and weekday: "
                "'0 2 * * *'"
            ) from None
    found = distill.to_deployment(
        name=resolved.run_name,
        cron=cron,
        parameters={"config": resolved.config.model_dump(mode="json", exclude_unset=True)},
        tags=["understudy"],
        concurrency_limit=ConcurrencyLimitConfig(
            limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE
        ),
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    assert isinstance(found, RunnerDeployment)
    return found


def publish(table: PublishedTable) -> Event:
    """Emit the event and return it, once the server has accepted it.

    By a request and not by Prefect's `emit_event`, which does not fail without a server.
    """
    payload = {k: v for k, v in asdict(table).items() if v is not None}
    resource = {"prefect.resource.id": RESOURCE + table.name, "prefect.resource.name": table.name}
    event = Event.model_validate(
        {"event": EVENT, "occurred": datetime.now(UTC), "resource": resource, "payload": payload}
    )
    with connected() as client:
        client.request("POST", "/events", json=[event.model_dump(mode="json")])
    return event


def apply(heartbeat: int | None = None, webhook: str | None = None) -> list[str]:
    """Create or update the automations and remove duplicates; returns the changes, in lines.

    `heartbeat` is the seconds between two heartbeats, by default those of Prefect's setting. `webhook` is the
    URL to call for failed runs; without one, the automation that calls it is left as it is. Raises UserError
    if heartbeats are switched off or the server does not answer.
    """
    seconds = heartbeat if heartbeat is not None else PREFECT_FLOWS_HEARTBEAT_FREQUENCY.value()
    if seconds is None:
        raise UserError(f"{_SETTING} is off here; set it to 30 or more, or add --heartbeat SECONDS")
    wanted = [crashed(int(seconds))]
    with connected() as client:
        if webhook is not None:
            if not webhook.startswith(("http://", "https://")):
                raise UserError("the webhook's URL does not start with http:// or https://")
            # Prefect encrypts the values of blocks in the server's database.
            headers = SecretDict({"Content-Type": "application/json"})
            block = Webhook(url=SecretStr(webhook), headers=headers).save(BLOCK, overwrite=True)
            assert isinstance(block, UUID)
            wanted.append(failed(block))
        done = [_applied(client, each) for each in wanted]
    return [*done, f"Runs need a heartbeat every {seconds} s or more often: {_SETTING} where they run."]


def crashed(heartbeat: int) -> AutomationCore:
    """Mark a run Crashed after three missed heartbeats and half of one, for a busy machine."""
    return _on_our_runs(
        CRASHED,
        f"Ends runs whose process is gone. Fits a heartbeat of up to {heartbeat} s.",
        ChangeFlowRunState(
            state=StateType.CRASHED,
            message=f"no heartbeat for {BEATS} intervals: its process or machine is gone; "
            "the same command or a retry continues from the finished stages",
        ),
        after={_BEAT},
        expect={_BEAT, *(f"prefect.flow-run.{state}" for state in _SILENT)},
        posture=Posture.Proactive,
        within=timedelta(seconds=BEATS * heartbeat + heartbeat // 2),
    )


def failed(block: UUID) -> AutomationCore:
    """Call the webhook of a block when a run fails or crashes."""
    return _on_our_runs(
        FAILED,
        f"Calls the URL in the block {BLOCK}, which `understudy automations apply` sets.",
        CallWebhook(block_document_id=block, payload=_TEXT),
        expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
        posture=Posture.Reactive,
    )


def _on_our_runs(
    name: str, description: str, action: ChangeFlowRunState | CallWebhook, **trigger: Any
) -> AutomationCore:
    each_of_ours = EventTrigger(
        match={"prefect.resource.id": "prefect.flow-run.*"},
        match_related={"prefect.resource.role": "flow", "prefect.resource.name": list(FLOWS)},
        for_each={"prefect.resource.id"},
        threshold=1,
        **trigger,
    )
    return AutomationCore(
        name=name, description=description, tags=["understudy"], trigger=each_of_ours, actions=[action]
    )


def _applied(client: SyncPrefectClient, wanted: AutomationCore) -> str:
    same = client.read_automations_by_name(wanted.name)
    if not same:
        client.create_automation(wanted)
        return f"{wanted.name}: created"
    found, *doubles = same
    for double in doubles:
        client.delete_automation(double.id)
    removed = f"; removed {len(doubles)} of the same name" if doubles else ""
    # Switched off on Prefect's pages, it stays off.
    wanted = wanted.model_copy(update={"enabled": found.enabled})
    if found.model_dump(exclude=_SERVERS_OWN) == wanted.model_dump(exclude=_SERVERS_OWN):
        return f"{wanted.name}: unchanged{removed}"
    # The server refuses the owner, which the client would send where it is set.
    values = wanted.model_dump(exclude={"owner_resource"})
    client.update_automation(found.id, AutomationCore.model_validate(values))
    return f"{wanted.name}: changed{removed}"
