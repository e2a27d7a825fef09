"""What the run took: money, tokens, and seconds by stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.report.blocks import UNDEFINED, Block, Prose, Section, Table, cells
from core.report.inputs import Report
from core.report.words import count

_TEACHER = {
    "requests": "requests_of_the_run",
    "prompt tokens": "prompt_tokens_of_the_run",
    "of them cached": "cached_tokens_of_the_run",
    "completion tokens": "completion_tokens_of_the_run",
}
_STUDENT = {
    "requests": "requests",
    "prompt tokens": "prefilled_tokens",
    "completion tokens": "sampled_tokens",
    "trained tokens": "trained_tokens",
}
_ESTIMATED = ("prompt tokens", "completion tokens", "trained tokens")
_COLUMNS = ("requests", "prompt tokens", "of them cached", "completion tokens", "trained tokens")


def section(report: Report) -> Section | None:
    """None where no ledger was kept."""
    ledger = report.ledger
    if not ledger:
        return None
    usd = ledger["usd"]
    said = (
        "No price was known, or nothing was paid for: tokens are counted, money is not."
        if usd is None
        else f"The run cost US$ {usd:.2f}."
    )
    said += " Stages that were reused count with the seconds and the money they once took."
    blocks: list[Block] = [Prose(said), _tokens(ledger, report.estimate)]
    if ledger["seconds"]:
        blocks.append(_seconds(ledger["seconds"]))
    return Section("cost", "Cost and time", blocks)


def _tokens(ledger: Mapping[str, Any], estimate: Mapping[str, Any] | None) -> Table:
    rows = []
    for who, names, money in (("teacher", _TEACHER, "usd_of_the_run"), ("student", _STUDENT, "usd")):
        part = ledger.get(who)
        if part is not None:
            counts = [count(part.get(names[c])) if c in names else UNDEFINED for c in _COLUMNS]
            rows.append(cells(who, *counts, _usd(part.get(money))))
    notes = []
    if ledger.get("teacher") is None:
        notes.append("The teacher's answers were recorded, or the labels themselves: nothing was asked.")
    if estimate is not None:
        counts = [count(estimate[_STUDENT[c]]) if c in _ESTIMATED else UNDEFINED for c in _COLUMNS]
        rows.append(cells("student, as estimated before training", *counts, _usd(estimate["usd"])))
        notes += [f"Estimate: {note}." for note in estimate["notes"]]
    return Table(["", *_COLUMNS, "US$"], rows, notes=notes)


def _usd(value: float | None) -> str:
    return UNDEFINED if value is None else f"{value:.4f}"


def _seconds(seconds: Mapping[str, float]) -> Table:
    whole = sum(seconds.values())
    rows = [
        cells(stage, f"{s:,.1f}", f"{s / whole:.1%}" if whole else UNDEFINED) for stage, s in seconds.items()
    ]
    rows.append(cells("all", f"{whole:,.1f}", ""))
    return Table(["stage", "seconds", "share"], rows, strong=frozenset({len(rows) - 1}))
