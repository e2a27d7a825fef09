"""Progress shows in Prefect with its counts, rate and time left."""

from __future__ import annotations

import pytest

from tasks import stage_tasks
from tasks.stage_tasks import ArtifactProgress

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_progress_becomes_one_artifact_that_is_updated(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    monkeypatch.setattr(stage_tasks, "_ARTIFACT_EVERY", 0.0)

    @flow(name="progress", persist_result=False)
    def small() -> None:
        shown = ArtifactProgress("sampling our texts")
        for done in (1, 2, 4):
            shown.update(done, 4, "loss 0.5")

    run = small(return_state=True).state_details.flow_run_id
    assert run is not None
    # The server, which other tests share, gives 200 artifacts to one question and no more.
    of_it = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=of_it)
    assert len(found) == 1
    assert found[0].type == "progress"
    assert "sampling our texts" in (found[0].description or "")
    assert found[0].data == 100.0
    assert "4/4 (100 %)" in (found[0].description or "")
    assert "loss 0.5" in (found[0].description or "")
