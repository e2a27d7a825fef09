"""The table of all scorers as plain rows, for whoever shows tables of his own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.report.results import compared
from core.report.words import name_of, number, with_interval


def scorer_rows(analysis: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row a scorer, the student first: every metric with its interval, and the threshold."""
    out = []
    for scorer in analysis["scorers"].values():
        row = {"scorer": scorer["title"]}
        for metric in compared():
            cell = with_interval(scorer["intervals"][metric])
            row[name_of(metric)] = f"{cell.text} ({cell.detail})" if cell.detail else cell.text
        out.append({**row, "threshold": number(scorer["threshold"])})
    return out
