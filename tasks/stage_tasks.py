"""Prefect tasks: one for each declared stage and action, and the progress that they show.

The tasks define retries, cache keys and where results are stored.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import Task, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE, CachePolicy
from prefect.client.schemas.objects import State
from prefect.context import TaskRunContext
from prefect.filesystems import RemoteFileSystem
from prefect.tasks import exponential_backoff

from core.errors import PassingError
from core.pipeline import distillation, reinforcement  # noqa: F401  # they declare all stages
from core.progress import BarProgress, Progress, describe
from core.stage import ACTIONS, STAGES, Stage, StageCall, build
from core.store import Store

log = logging.getLogger(__name__)


class StageWork:
    """The argument of a stage's task. Not a dataclass, which Prefect would search for futures."""

    __slots__ = ("call", "error", "progress", "refresh", "reused", "store")

    def __init__(
        self, store: Store, call: StageCall, progress: Callable[[str], Progress], *, refresh: bool
    ) -> None:
        self.store, self.call, self.progress, self.refresh = store, call, progress, refresh
        self.reused = False
        """Whether the task found the object, built by another run that it may have waited for."""
        self.error: Exception | None = None
        """What the last attempt raised."""


@dataclass(kw_only=True)
class StageKey(CachePolicy):
    """The result of a stage depends on its own key and on nothing else."""

    def compute_key(
        self, task_ctx: TaskRunContext, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str | None:
        """`<stage>/<key>.json`, under which the record is in <root>/cache."""
        call: StageCall = inputs["work"].call
        return f"{call.name}/{call.key}.json"


async def _is_temporary(task: Any, run: Any, state: State[Any]) -> bool:
    """Retry errors that may pass, such as lost connections; no full disk and no mistakes of the user."""
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
    "retry_condition_fn": _is_temporary,
}


def _of_stage(stage: Stage[Any]) -> Task[[StageWork], dict[str, Any]]:
    def run(work: StageWork) -> dict[str, Any]:
        try:
            built = build(work.store, work.call, work.progress(work.call.label), refresh=work.refresh)
        except Exception as e:
            work.error = e
            raise
        work.reused = built.reused
        return {"manifest": built.manifest.path, "digest": built.manifest.digest}

    run.__name__ = run.__qualname__ = stage.name
    run.__doc__ = stage.function.__doc__
    return task(name=stage.name, cache_policy=StageKey(), persist_result=True, **RETRIES)(run)


STAGE_TASKS: Mapping[str, Task[[StageWork], dict[str, Any]]] = {
    name: _of_stage(stage) for name, stage in STAGES.items()
}
"""By the name of the stage. The result is a pointer to the manifest."""
ACTION_TASKS: Mapping[Callable[..., Any], Task[..., Any]] = {
    action: task(name=name, task_run_name=name, cache_policy=NO_CACHE, persist_result=False)(action)
    for name, action in ACTIONS.items()
}


def result_storage(store: Store) -> Path | RemoteFileSystem:
    """Where Prefect keeps result records: <root>/cache, as a folder or as a block without credentials."""
    if store.backend.folder is not None:
        return store.backend.folder / "cache"
    return _block(store.where("cache"))


@lru_cache
def _block(url: str) -> RemoteFileSystem:
    """A saved block, since Prefect accepts no other; the temporary server has none."""
    block = RemoteFileSystem(basepath=url)
    block.save(f"understudy-{hashlib.sha256(url.encode()).hexdigest()[:16]}", overwrite=True)
    return block


_ARTIFACT_EVERY = 5.0
"""Seconds between updates: creating an artifact costs about 60 ms, updating it 10."""


class ArtifactProgress(BarProgress):
    """Writes to the log, moves a bar on a terminal, and fills an artifact's description.

    Prefect's page shows only that text of a progress artifact, so it has counts, rate and time left.
    """

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self._updated = time.monotonic()
        self._artifact: UUID | None = None

    def update(self, done: int, total: int, note: str = "") -> None:
        super().update(done, total, note)
        rate, now = self.rate(done), time.monotonic()
        if now - self._updated < _ARTIFACT_EVERY and (done < total or self._artifact is None):
            return
        self._updated = now
        text = f"{self.what}: {describe(done, total, rate, note)}"
        share = round(100.0 * done / max(total, 1), 1)
        try:
            if self._artifact is None:
                created = create_progress_artifact(progress=share, description=text)
                assert isinstance(created, UUID)
                self._artifact = created
            else:
                update_progress_artifact(self._artifact, progress=share, description=text)
        except Exception as e:  # what is only shown must not stop what is paid for
            log.warning("the progress of %s could not be shown in Prefect: %s", self.what, e)
