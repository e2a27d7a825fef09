"""The sweep's report, as Markdown, as a page, and as values for scripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from core import jsonio
from core.evaluation.analysis import Analysis
from core.evaluation.decide_stage import DECISION
from core.evaluation.decision import Decided
from core.optional import Failures
from core.pipeline.facts import setup_of
from core.report import markdown, page
from core.report.data import ComparisonData as OnRows
from core.report.document import Document, Section
from core.store.clock import now
from core.store.objects import Store
from core.sweep import recommendation, tables
from core.sweep.arms import Sweep
from core.sweep.comparing import compare_arms
from core.sweep.facts import SweepReport
from core.sweep.finished import Ended, Finished, collect

FOLDER = "sweeps"
MARKDOWN = "sweep_report.md"
PAGE = "sweep_report.html"
VALUES = "sweep.json"


def write(store: Store, sweep: Sweep, ended: Sequence[Ended]) -> str:
    """sweep_report.md, sweep_report.html and sweep.json under sweeps/<name>/; returns where the page is."""
    report = _report(store, sweep, ended)
    at, failures = f"{FOLDER}/{sweep.name}", Failures()
    document = Document(
        title=f"Sweep: {sweep.name}",
        sections=sections(report),
        generated_at=report.generated_at,
        kind="Report of a sweep",
        name=sweep.name,
        facts=(f"{len(report.finished)} of {len(sweep.arms)} arms", sweep.base, report.generated_at),
    )
    shown = page.render(document, failures)
    files = {
        VALUES: jsonio.canonical(values(report)).decode() + "\n",
        MARKDOWN: markdown.render(document, failures),
        PAGE: shown,
    }
    for name, text in files.items():
        store.backend.write(f"{at}/{name}", text.encode())
    return store.where(f"{at}/{PAGE}")


def sections(report: SweepReport) -> list[Section]:
    """In the order they are read."""
    out = [Section("recommendation", "What val recommends", [recommendation.findings(report)])]
    if report.on_val is not None:
        out.append(tables.val(report, report.on_val))
    out.append(tables.arms(report))
    if report.left:
        out.append(tables.left(report))
    if report.on_test is not None:
        out += tables.on_test(report, report.on_test)
    return out


def values(report: SweepReport) -> dict[str, Any]:
    """`sweep.json`: the same for scripts."""
    best, compared = report.recommended, report.compared
    return {
        "sweep": report.sweep.name,
        "base": report.sweep.base,
        "generated_at": report.generated_at,
        "metric": None if compared is None else compared.metric,
        "recommended": None if best is None else best.arm.name,
        "recommended_by": "val",
        "arms": {arm.name: {"run": arm.run, "sets": list(arm.sets)} for arm in report.sweep.arms},
        "finished": [arm.arm.name for arm in report.finished],
        "left": {left.arm.name: left.why for left in report.left},
        "val": None if compared is None else compared.val.to_json(),
        "test": None if compared is None or compared.test is None else compared.test.to_json(),
    }


def _report(store: Store, sweep: Sweep, ended: Sequence[Ended]) -> SweepReport:
    finished, left = collect(store, ended)
    compared = compare_arms(store, finished, sweep.metric) if finished else None
    val = None if compared is None else _on(store, sweep, finished, compared.val)
    test = None if compared is None or compared.test is None else _on(store, sweep, finished, compared.test)
    return SweepReport(sweep, now(), finished, left, compared, val, test)


def _on(store: Store, sweep: Sweep, finished: Sequence[Finished], found: Analysis) -> OnRows:
    config = finished[0].arm.resolved.config
    return OnRows(
        run_name=sweep.name,
        generated_at=now(),
        setup=setup_of(config, config.teacher.kind),
        analysis=found,
        decisions={arm.arm.name: Decided.read(store.file(arm.decision, DECISION)) for arm in finished},
    )
