"""The sweep flow: each arm as a distill flow of its own, then one report of all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from core.optional import Failures, Part
from core.pipeline.run import run_sweep
from core.store.objects import Store
from core.sweep.arms import Sweep, load_sweep
from core.sweep.report import FOLDER, MARKDOWN
from flows.distill import distill


@flow(name="sweep", flow_run_name="sweep: {file}", persist_result=False)
def sweep(file: str, overrides: Sequence[str] = (), new: bool = False) -> str:
    """Run every arm of a sweep file and return where the report that compares them is.

    A failed arm does not stop the others; the report covers the finished ones, and then the sweep fails.

    Args:
        file: The sweep file; relative paths are relative to the working directory.
        overrides: Changes of the base config, as with --set.
        new: If the name of an arm belongs to a run of another config, keep that run under another name.
    """
    arms = load_sweep(Path(file), list(overrides))
    return run_sweep(arms, lambda arm: distill(arm.as_parameter(), new=new), _show)


def _show(store: Store, sweep: Sweep) -> None:
    with Failures().optional(Part.ARTIFACT, "sweep-report"):
        found = store.backend.read(f"{FOLDER}/{sweep.name}/{MARKDOWN}")
        if found is not None:
            about = f"Sweep {sweep.name}"
            create_markdown_artifact(key="sweep-report", markdown=found.data.decode(), description=about)
