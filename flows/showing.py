"""Prefect's pages for a run: its name, and at its end the report or the error.

Artifacts are created from the run's folder at the end of the flow, since a reused stage creates none.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefect import runtime
from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from core.config import Config
from core.evaluation.analysis import Analysis
from core.optional import Failures, Part
from core.pipeline.reporting import CURVE
from core.pipeline.run_folder import STUDENT
from core.report.markdown import plain
from core.report.sections.results import scorer_rows
from core.store.pointers import FOLDER
from core.store.runs import RunView

log = logging.getLogger(__name__)

ANALYSIS = "student_phase/analysis.json"
FAILED = "what-happened"


def flow_run_name() -> str:
    """Run, dataset and student, which distinguish the lines of a list of runs."""
    given: dict[str, Any] = runtime.flow_run.parameters
    config = Config.model_validate(given["config"])
    paths = (given.get("data") or config.data.path or config.data.name, config.student.model)
    table, model = (path.rstrip("/").rpartition("/")[2] for path in paths)
    return f"{config.run.name}: {table}, {model}"


def show_student(view: RunView, failures: Failures) -> None:
    """Create the artifacts of a run; one that fails is recorded in `failures`."""
    about = f"Run {view.name}"
    show_report("test-report", STUDENT.report, view, failures)
    with failures.optional(Part.ARTIFACT, "scorers"):
        if (analysis := view.read(ANALYSIS)) is not None:
            found = Analysis.from_json(json.loads(analysis), view.where(ANALYSIS))
            described = f"{about}: all on the same rows of {found.split}, with 95 % intervals"
            create_table_artifact(key="scorers", table=scorer_rows(found), description=described)
    with failures.optional(Part.ARTIFACT, "learning-curve"):
        if (curve := view.read_bytes(f"{STUDENT.folder}/{CURVE}")) is not None:
            # The image itself: Prefect's pages cannot read the run's folder.
            url = f"data:image/png;base64,{base64.b64encode(curve).decode()}"
            create_image_artifact(key="learning-curve", image_url=url, description=about)
    pointer = f"{FOLDER}/{view.name}.json"
    places = {"report-page": view.where(STUDENT.page)}
    if view.store.backend.read(pointer) is not None:
        places["model-pointer"] = view.store.where(pointer)
    for key, place in places.items():
        with failures.optional(Part.ARTIFACT, key):
            link = place if "://" in place else Path(place).absolute().as_uri()
            create_link_artifact(key=key, link=link, link_text=place, description=about)


def show_report(key: str, file: str, view: RunView, failures: Failures) -> None:
    """Create an artifact of a report, which is optional."""
    with failures.optional(Part.ARTIFACT, key):
        if (text := view.read(file)) is not None:
            create_markdown_artifact(key=key, markdown=text, description=f"Run {view.name}")


@contextlib.contextmanager
def explaining(name: str, flow: str = "distill", command: str = "run") -> Iterator[None]:
    """If the block fails, create an artifact with the error and the ways to continue."""
    try:
        yield
    except Exception as e:
        try:
            quoted = "\n".join(f"> {plain(line)}" for line in str(e).splitlines() if line.strip())
            text = (
                f"# Run {plain(name)} did not finish\n\n{quoted or '> (no message)'}\n\n"
                "## How to continue\n\n"
                "Fix what the message names, then do one of these; finished stages are kept, and appear as "
                "Cached:\n\n"
                "- **Retry** on this page, if a worker executes its runs;\n"
                f"- `prefect flow-run retry {runtime.flow_run.id} --entrypoint flows.{flow}.{flow}`, in the "
                "directory it was started from;\n"
                f"- the same `understudy {command}` command again.\n"
            )
            create_markdown_artifact(key=FAILED, markdown=text, description=f"Run {name}")
        except Exception as other:  # the error of the run matters more
            log.warning("the failure could not be shown in Prefect: %s", other)
        raise
