"""A section of the report."""

from __future__ import annotations

from core.report import Prose, ReportData, Section
from understudy import register_section


@register_section("emphasis", order=205)
def emphasis(report: ReportData) -> Section | None:
    """How often the texts of the worst errors shout."""
    marks = sum(mistake.text.count("!") for mistake in report.mistakes)
    return Section("emphasis", "Emphasis", [Prose(f"Exclamation marks in the worst errors: {marks}.")])
