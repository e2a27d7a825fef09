"""What Prefect's pages show of a run: its name, and at its end the report or what happened instead.

Made from the run's folder at the flow's end, since a stage that was reused makes no artifact.
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
from core.pipeline.reporting import CURVE, PAGE, REPORT
from core.report.markdown import plain
from core.report.sections.results import scorer_rows
from core.store.pointers import FOLDER
from core.store.runs import RunView

log = logging.getLogger(__name__)

ANALYSIS = "student_phase/analysis.json"
FAILED = "what-happened"


def flow_run_name() -> str:
    """Run, dataset and student: what tells one line of a list of runs from the next."""
    given: dict[str, Any] = runtime.flow_run.parameters
    config = Config.model_validate(given["config"])
    table = given.get("data") or config.data.path or config.data.name
    return f"{config.run.name}: {_last(table)}, {_last(config.student.model)}"


def _last(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def show(view: RunView, failures: Failures) -> None:
    """Artifacts of the flow's run, each under a key of its own, so that runs stand beside each other.

    Each is optional: one that fails is recorded in `failures`.
    """
    about = f"Run {view.name}"
    with failures.optional(Part.ARTIFACT, "test-report"):
        if (report := view.read(REPORT)) is not None:
            create_markdown_artifact(key="test-report", markdown=report, description=about)
    with failures.optional(Part.ARTIFACT, "scorers"):
        if (analysis := view.read(ANALYSIS)) is not None:
            found = Analysis.from_json(json.loads(analysis), view.where(ANALYSIS))
            said = f"{about}: all on the same rows of {found.split}, with 95 % intervals"
            create_table_artifact(key="scorers", table=scorer_rows(found), description=said)
    with failures.optional(Part.ARTIFACT, "learning-curve"):
        if (curve := view.read_bytes(CURVE)) is not None:
            # The picture itself: a page of Prefect's cannot reach the run's folder.
            url = f"data:image/png;base64,{base64.b64encode(curve).decode()}"
            create_image_artifact(key="learning-curve", image_url=url, description=about)
    pointer = f"{FOLDER}/{view.name}.json"
    places = {"report-page": view.where(PAGE)}
    if view.store.backend.read(pointer) is not None:
        places["model-pointer"] = view.store.where(pointer)
    for key, place in places.items():
        with failures.optional(Part.ARTIFACT, key):
            create_link_artifact(key=key, link=_address(place), link_text=place, description=about)


def show_report(key: str, file: str, view: RunView, failures: Failures) -> None:
    """A report as an artifact, which is optional."""
    with failures.optional(Part.ARTIFACT, key):
        if (text := view.read(file)) is not None:
            create_markdown_artifact(key=key, markdown=text, description=view.name)


def _address(place: str) -> str:
    return place if "://" in place else Path(place).absolute().as_uri()


@contextlib.contextmanager
def explaining(name: str, flow: str = "distill", command: str = "run") -> Iterator[None]:
    """Where what is inside fails, an artifact says what happened and how to go on."""
    try:
        yield
    except Exception as e:
        try:
            said = _what_happened(name, e, flow, command)
            create_markdown_artifact(key=FAILED, markdown=said, description=f"Run {name}")
        except Exception as beside:  # what happened matters more
            log.warning("what happened could not be shown in Prefect: %s", beside)
        raise


def _what_happened(name: str, error: Exception, flow: str, command: str) -> str:
    said = "\n".join(f"> {plain(line)}" for line in str(error).splitlines() if line.strip())
    run = runtime.flow_run.id
    return (
        f"# Run {plain(name)} did not finish\n\n{said or '> (no words)'}\n\n## To go on\n\n"
        "Mend what the sentence names, then do one of these; what is finished is kept, and stages that "
        "are whole come back as Cached:\n\n"
        "- **Retry** on this page, where a worker carries its runs out;\n"
        f"- `prefect flow-run retry {run} --entrypoint flows.{flow}.{flow}`, in the directory it was "
        "started from;\n"
        f"- the same `understudy {command}` command again.\n"
    )
