"""What is retried and what is cached."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.config import ConfigSection
from core.errors import ModelError, PassingError, StageError, StoreError, UnderstudyError
from core.progress import Silent
from core.stage import Stage, StageIO
from core.store import Store

pytestmark = pytest.mark.usefixtures("prefect_server")


class Settings(ConfigSection):
    """No settings."""


def called(
    store: Store, run: Callable[[Settings, StageIO], dict[str, Any]], *, refresh: bool = False
) -> None:
    """Call the split task with a stage of ours, without its waiting times, within a flow."""
    from prefect import flow

    from tasks.stage_tasks import STAGE_TASKS, StageWork, result_storage

    call = Stage("split", 1, run, Settings).call(Settings())
    quick = STAGE_TASKS["split"].with_options(
        retry_delay_seconds=0, result_storage=result_storage(store), result_serializer="json"
    )

    @flow(name="policy", persist_result=False)
    def small() -> None:
        quick(StageWork(store, call, lambda label: Silent(), refresh=refresh))

    small()


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (PassingError("the server was away"), 4),
        (StoreError("the disk is full"), 1),
        (ConnectionResetError("reset"), 4),
        (ModelError("no such model"), 1),
        (StageError("nothing to learn"), 1),
        (ValueError("a bug"), 1),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, Exception) else str(v),
)
def test_only_what_can_pass_is_tried_again(tmp_path: Path, error: Exception, calls: int) -> None:
    seen = []

    def fail(config: Settings, io: StageIO) -> dict[str, Any]:
        seen.append(1)
        raise error

    with pytest.raises((UnderstudyError, ValueError, OSError)):
        called(Store.open(str(tmp_path)), fail)
    assert len(seen) == calls


def test_a_failure_that_passes_costs_one_more_call_and_no_more(tmp_path: Path) -> None:
    seen = []

    def once(config: Settings, io: StageIO) -> dict[str, Any]:
        seen.append(1)
        if len(seen) == 1:
            raise PassingError("the server was away")
        (io.out / "a.txt").write_text("a")
        return {}

    store = Store.open(str(tmp_path))
    called(store, once)
    called(store, once)
    assert len(seen) == 2
    records = list((tmp_path / "cache/split").glob("*.json"))
    assert len(records) == 1
