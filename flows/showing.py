"""What Prefect's pages show of a finished run."""

from __future__ import annotations

from prefect.artifacts import create_markdown_artifact

from core.pipeline.reporting import REPORT
from core.store.runs import RunView


def show(view: RunView) -> None:
    """The report, as an artifact of the flow's run."""
    if (report := view.read(REPORT)) is not None:
        create_markdown_artifact(key="test-report", markdown=report, description=f"Run {view.name}")
