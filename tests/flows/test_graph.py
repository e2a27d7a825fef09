"""Prefect's server knows what each task run depends on, from which its pages draw the run's graph."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.flows.running import distill

pytestmark = pytest.mark.usefixtures("prefect_server")


def parents(state: object) -> dict[str, set[str]]:
    """By the name of each task run, those of the task runs that it depends on."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.client.schemas.objects import TaskRunResult

    assert hasattr(state, "state_details")
    chosen = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
    with get_client(sync_client=True) as client:
        for _ in range(60):  # the server records a task run some time after it ended
            runs = client.read_task_runs(flow_run_filter=chosen)
            if "publish" in {run.name for run in runs}:
                break
            time.sleep(0.5)
    names = {run.id: run.name for run in runs}
    inputs = {run.name: run.task_inputs.get("wait_for", []) for run in runs}
    return {
        name: {names[each.id] for each in found if isinstance(each, TaskRunResult)}
        for name, found in inputs.items()
    }


def test_each_stage_depends_on_the_stages_whose_objects_it_reads(project: Path) -> None:
    state = distill(project, return_state=True)
    found = parents(state)
    assert found["split"] == set()
    assert found["sample"] == {"split"}
    assert found["reject"] == {"split", "sample"}
    assert found["encode"] == {"reject"}
    assert found["train steps 3 to 4 of 6"] == {"train steps 1 to 2 of 6"}
    assert found["evaluate step 4 on val"] == {"split", "train steps 3 to 4 of 6"}
    assert {"split", "baseline"} <= found["decide the threshold of tfidf_words"]
    assert {"analyse student on test", "reject", "encode"} <= found["bundle the student"]
    assert "bundle the student" in found["report"]
    assert "report" in found["publish"]
    assert [name for name, of in found.items() if not of and name != "train steps 1 to 2 of 6"] == ["split"]

    again = parents(distill(project, return_state=True))
    assert again == found, "stages that are reused have the same edges"
