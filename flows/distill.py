"""The flows that start runs (distill, reinforce, sweep) and that read finished ones (evaluate, summarize)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from core import locations
from core.config import Config
from core.errors import Failures, Part
from core.pipeline.opening import opened, reopened
from core.pipeline.reinforcement import reinforce as reinforce_student
from core.pipeline.run import distill_all, finish, report_page, run_sweep
from core.pipeline.run import evaluate_checkpoint as measure_checkpoint
from core.pipeline.runners import switches
from core.store import Store
from core.summary.run_records import Modes
from core.summary.summarize import Format, cells, default_path, save, summarize_runs
from core.summary.sweep_arms import Sweep, load_sweep
from core.summary.sweep_report import FOLDER, MARKDOWN
from flows.runtime import TWO_THREADS, PrefectRunner, explaining, flow_run_name, resolved_of

log = logging.getLogger(__name__)

SHOWN = 500
"""Rows of the summary's artifact, which Prefect keeps in its database; the file has all."""
_SCORES = ("macro_f1", "macro_f1_low", "macro_f1_high", "accuracy", "auroc")
_COLUMNS = ("run", "mode", "n", *_SCORES, "usd", "commit")


@flow(name="distill", flow_run_name=flow_run_name, persist_result=False, task_runner=TWO_THREADS)
def distill(
    config: Config,
    data: str | None = None,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    refresh: Sequence[str] = (),
    new: bool = False,
) -> str:
    """Run the pipeline of a config and return where its report is.

    Args:
        config: Everything that decides the run; relative paths are relative to the working directory.
        data: A table instead of data.path, data.dir or data.files, such as a trigger knows; the run is
            then called <run.name>-<the table's name>.
        only: Stages to run; all others take this run's own earlier result.
        skip: Stages that take this run's own earlier result.
        refresh: Stages that are built again although their objects are whole.
        new: If run.name belongs to a run of another config, keep that run under another name.
    """
    resolved = resolved_of(config, data)
    chosen = switches(resolved.config.stages, only, skip, refresh)
    with explaining(resolved.run_name, "distill"), opened(resolved, chosen, PrefectRunner, new=new) as run:
        outcome = distill_all(run, lambda seed: distill(seed.as_parameter(), None, only, skip, refresh, new))
        return report_page(run, outcome)


@flow(name="reinforce", flow_run_name=flow_run_name, persist_result=False, task_runner=TWO_THREADS)
def reinforce(
    config: Config,
    data: str | None = None,
    start: str | None = None,
    refresh: Sequence[str] = (),
    replace: bool = False,
) -> str:
    """Reinforce a student by a config's `reinforce:`, in the run's rl_phase/, and return where its report is.

    Args:
        config: Everything that decides the run; relative paths are relative to the working directory.
        data: A table instead of data.path, data.dir or data.files; the run is then called
            <run.name>-<the table's name>.
        start: A run whose published student to begin with, latest, or base; by default the run's own.
        refresh: Stages that are built again although their objects are whole.
        replace: Replace the files of a reinforcement with other settings in rl_phase/.
    """
    resolved = resolved_of(config, data)
    chosen = switches(resolved.config.stages, refresh=refresh)
    with explaining(resolved.run_name, "reinforce"), opened(resolved, chosen, PrefectRunner) as run:
        outcome = reinforce_student(run, start, replace=replace)
        finish(run, outcome)
        return report_page(run, outcome)


@flow(name="sweep", flow_run_name="sweep: {file}", persist_result=False)
def sweep(file: str, overrides: Sequence[str] = (), new: bool = False) -> str:
    """Run every arm of a sweep file and return where the report that compares them is.

    A failed arm does not stop the others; the report covers the finished ones, and then the sweep fails.

    Args:
        file: The sweep file; relative paths are relative to the working directory.
        overrides: Changes of the base config, as with --set.
        new: If the name of an arm belongs to a run of another config, keep that run under another name.
    """

    def show(store: Store, sweep: Sweep) -> None:
        with Failures().optional(Part.ARTIFACT, "sweep-report"):
            found = store.backend.read(f"{FOLDER}/{sweep.name}/{MARKDOWN}")
            if found is not None:
                about = f"Sweep {sweep.name}"
                create_markdown_artifact(key="sweep-report", markdown=found.data.decode(), description=about)

    arms = load_sweep(Path(file), list(overrides))
    return run_sweep(arms, lambda arm: distill(arm.as_parameter(), new=new), show)


@flow(name="evaluate", persist_result=False)
def evaluate_checkpoint(run: str, root: str, checkpoint: str = "best") -> str:
    """Measure `checkpoint` (best, final, step_<n>, or the path of one of the run's adapters).

    Returns the folder with predictions and metrics. Nothing else of the run is changed, and nothing is
    published.
    """
    with reopened(root, run, PrefectRunner) as runner:
        return measure_checkpoint(runner, checkpoint)


@flow(name="summarize", persist_result=False)
def summarize(
    root: str, output: str | None = None, mode: Modes = "both", format: Format = "csv"
) -> str | None:
    """Write the summary of the runs under `root` and return where; None without runs.

    `understudy summary` does the same without Prefect, whose server takes longer to start than this.
    `output` is a local path, by default summary.csv or summary.html in the working directory.
    """
    found, text = summarize_runs(Store.at(root), mode, format, with_facts=True)
    for each in found.skipped:
        log.warning("%s: %s", each.place, each.why)
    log.info("%d runs, %d rows, %d warnings", found.runs, len(found.rows), len(found.skipped))
    if not found.rows:
        return None
    path = default_path(format) if output is None else locations.absolute(output, "output", creates=True)
    saved = save(text, path)
    with Failures().optional(Part.ARTIFACT, "summary"):
        rows = [row for row in found.rows if row.split == "test"]
        rows.sort(key=lambda row: -(row.file.metrics.macro_f1 or 0.0))
        table = [{name: cells(row)[name] for name in _COLUMNS} for row in rows[:SHOWN]]
        skipped = "".join(f"\n- {each.place}: {each.why}" for each in found.skipped[:SHOWN])
        about = f"{found.runs} runs under {root}, on test, the best macro-F1 first, at most {SHOWN} rows"
        about += f"\n\nSkipped:{skipped}" if skipped else ""
        create_table_artifact(key="summary", table=table, description=about)
    return str(saved.absolute())


if __name__ == "__main__":  # `python -m flows.distill ...` is `understudy run ...`
    import runpy
    import sys

    sys.argv.insert(1, "run")
    runpy.run_module("flows.cli", run_name="__main__")
