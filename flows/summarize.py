"""The flow of the summary: all runs under a root into one file, and the test rows into Prefect's pages.

`understudy summary` does the same without Prefect, whose server takes longer to start than this.
"""

from __future__ import annotations

import logging

from prefect import flow
from prefect.artifacts import create_table_artifact

from core import locations
from core.optional import Failures, Part
from core.store.objects import Store
from core.summary.files import Modes
from core.summary.tables import Format, cells, default_path, save, summarize_runs

log = logging.getLogger(__name__)

SHOWN = 500
"""Rows of the artifact, which Prefect keeps in its database; the file has all."""
_SCORES = ("macro_f1", "macro_f1_low", "macro_f1_high", "accuracy", "auroc")
_COLUMNS = ("run", "mode", "n", *_SCORES, "usd", "commit")


@flow(name="summarize", persist_result=False)
def summarize(
    root: str, output: str | None = None, mode: Modes = "both", format: Format = "csv"
) -> str | None:
    """Write the summary of the runs under `root` and return where; None without runs.

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
