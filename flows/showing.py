"""What Prefect's pages show of a finished run: the report, the table of all scorers, the learning curve.

Made from the run's folder at the flow's end, since a stage that was reused makes no artifact.
"""

from __future__ import annotations

import base64
import json

from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact

from core.pipeline.reporting import CURVE, REPORT
from core.report.rows import scorer_rows
from core.store.runs import RunView

ANALYSIS = "student_phase/analysis.json"


def show(view: RunView) -> None:
    """Artifacts of the flow's run, each under a key of its own, so that runs stand beside each other."""
    about = f"Run {view.name}"
    if (report := view.read(REPORT)) is not None:
        create_markdown_artifact(key="test-report", markdown=report, description=about)
    if (analysis := view.read(ANALYSIS)) is not None:
        found = json.loads(analysis)
        said = f"{about}: all on the same rows of {found['split']}, with 95 % intervals"
        create_table_artifact(key="scorers", table=scorer_rows(found), description=said)
    if (curve := view.bytes(CURVE)) is not None:
        # The picture itself: a page of Prefect's cannot reach the run's folder.
        url = f"data:image/png;base64,{base64.b64encode(curve).decode()}"
        create_image_artifact(key="learning-curve", image_url=url, description=about)
