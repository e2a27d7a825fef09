"""How every stage is cached and retried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from prefect.cache_policies import CachePolicy
from prefect.client.schemas.objects import State
from prefect.context import TaskRunContext
from prefect.tasks import exponential_backoff

from core.errors import PassingError
from core.progress import Progress
from core.stages import Stage, make
from core.store.objects import Store


class StageCall:
    """What a stage's task is given. Not a dataclass: Prefect looks into those for futures."""

    __slots__ = ("progress", "refresh", "reused", "stage", "store")

    def __init__(
        self, store: Store, stage: Stage, progress: Callable[[], Progress], *, refresh: bool
    ) -> None:
        self.store, self.stage, self.progress, self.refresh = store, stage, progress, refresh
        self.reused = False
        """Whether the task found the object made, by another run that it may have waited for."""


@dataclass(kw_only=True)
class StageKey(CachePolicy):
    """A stage's result depends on its own key and on nothing else."""

    def compute_key(
        self, task_ctx: TaskRunContext, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str | None:
        """`<stage>/<key>.json`, under which the record lies in <root>/cache."""
        stage: Stage = inputs["call"].stage
        return f"{stage.name}/{stage.key}.json"


async def _may_pass(task: Any, run: Any, state: State[Any]) -> bool:
    """Retry what can pass by itself, a connection; not a full disk and not the user's mistakes."""
    try:
        await state.result(raise_on_failure=True)
    except (PassingError, ConnectionError, TimeoutError):
        return True
    except Exception:
        return False
    return False


RETRIES: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(backoff_factor=2),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": _may_pass,
}
OPTIONS: dict[str, Any] = {"cache_policy": StageKey(), "persist_result": True, **RETRIES}


def run_stage(call: StageCall) -> dict[str, Any]:
    """Make the stage's object, or find it; the record is a pointer only."""
    made = make(call.store, call.stage, call.progress(), refresh=call.refresh)
    call.reused = made.reused
    return {"manifest": made.manifest.path, "digest": made.manifest.digest}
