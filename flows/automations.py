"""What Prefect's server does by itself about our runs, as code: applied twice, there is one of each."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import CallWebhook, ChangeFlowRunState
from prefect.events.schemas.automations import Automation, AutomationCore, EventTrigger, Posture
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY
from prefect.types import SecretDict
from pydantic import SecretStr

from core.errors import UserError
from flows.server import connected

CRASHED = "understudy: no sign of life is a crash"
TOLD = "understudy: a failed run is told"
BLOCK = "understudy-failed-runs"
FLOWS = ("distill", "baseline", "evaluate", "summarize", "sweep", "reinforce", "predict", "predict-shards")
"""The flows that are ours; on a shared server others are left alone."""
BEATS = 3
_SETTING = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
_BEAT = "prefect.flow-run.heartbeat"
_SILENT = ("Completed", "Failed", "Cancelled", "Crashed", "Paused", "Suspended", "AwaitingRetry")
"""States after which a run may be silent."""
_TEXT = (
    '{"text": {{ (flow.name ~ " " ~ flow_run.name ~ " is " ~ flow_run.state.name ~ ": "'
    ' ~ (flow_run.state.message or "")) | tojson }}, "flow_run": {{ (flow_run.id ~ "") | tojson }},'
    ' "url": {{ (flow_run | ui_url) | tojson }}}'
)
"""`text` is what chat services show; `url` is null where the server has no PREFECT_UI_URL."""


def apply(heartbeat: int | None = None, webhook: str | None = None) -> list[str]:
    """Make what is missing, mend what differs, remove doubles; returns what was done, in lines.

    `heartbeat` is the seconds between two signs of life, by default those of Prefect's setting, and
    `webhook` the URL that failed runs are told to; without one, what tells of them stays as it is.
    Raises UserError where heartbeats are switched off or there is no server.
    """
    seconds = _seconds(heartbeat)
    wanted = [crashed(seconds)]
    with connected() as client:
        if webhook is not None:
            wanted.append(told(_block(webhook)))
        done = [_applied(client, each) for each in wanted]
    return [*done, f"Runs have to beat every {seconds} s or more often: {_SETTING} where they run."]


def crashed(heartbeat: int) -> AutomationCore:
    """Mark a run Crashed that was silent for three heartbeats and half of one, for a busy machine."""
    return _on_our_runs(
        CRASHED,
        f"Ends runs whose process is gone. Fits a heartbeat of up to {heartbeat} s.",
        ChangeFlowRunState(
            state=StateType.CRASHED,
            message=f"no sign of life for {BEATS} heartbeats: its process or machine is gone; "
            "the same command or a retry goes on from what is finished",
        ),
        after={_BEAT},
        expect={_BEAT, *(f"prefect.flow-run.{state}" for state in _SILENT)},
        posture=Posture.Proactive,
        within=timedelta(seconds=BEATS * heartbeat + heartbeat // 2),
    )


def told(block: UUID) -> AutomationCore:
    """Call the webhook of a block when a run fails or crashes."""
    return _on_our_runs(
        TOLD,
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


def _seconds(heartbeat: int | None) -> int:
    found = heartbeat if heartbeat is not None else PREFECT_FLOWS_HEARTBEAT_FREQUENCY.value()
    if found is None:
        raise UserError(f"{_SETTING} is off here; set it to 30 or more, or say --heartbeat SECONDS")
    return int(found)


def _block(url: str) -> UUID:
    """The block that keeps the URL, encrypted in the server's database."""
    if not url.startswith(("http://", "https://")):
        raise UserError("the webhook's URL does not begin with http:// or https://")
    block = Webhook(url=SecretStr(url), headers=SecretDict({"Content-Type": "application/json"}))
    saved = block.save(BLOCK, overwrite=True)
    assert isinstance(saved, UUID)
    return saved


def _applied(client: SyncPrefectClient, wanted: AutomationCore) -> str:
    same = client.read_automations_by_name(wanted.name)
    if not same:
        client.create_automation(wanted)
        return f"{wanted.name}: made"
    found, *doubles = same
    for double in doubles:
        client.delete_automation(double.id)
    removed = f"; removed {len(doubles)} of the same name" if doubles else ""
    # Whoever switched it off in Prefect's pages meant it.
    wanted = wanted.model_copy(update={"enabled": found.enabled})
    if _compared(found) == _compared(wanted):
        return f"{wanted.name}: unchanged{removed}"
    # The server refuses the owner, which the client would send where it is set.
    values = wanted.model_dump(exclude={"owner_resource"})
    client.update_automation(found.id, AutomationCore.model_validate(values))
    return f"{wanted.name}: changed{removed}"


def _compared(automation: Automation | AutomationCore) -> str:
    """What we decide of an automation, as text; sets have no order and the server adds ids."""
    values = automation.model_dump(mode="json", exclude={"id", "owner_resource"})
    values["trigger"] = {
        key: sorted(value) if key in ("after", "expect", "for_each") else value
        for key, value in values["trigger"].items()
        if key != "id"
    }
    return json.dumps(values, sort_keys=True)
