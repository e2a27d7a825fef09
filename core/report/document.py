"""The report's sections in the order they are read, the same for Markdown and for the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.report import (
    costs,
    decisions,
    hardness,
    mistakes,
    origin,
    parts,
    reads,
    reinforced,
    results,
    seeds,
    teaching,
    training,
    untested,
    verdict,
)
from core.report.blocks import Section
from core.report.inputs import Compared, Report


def sections(report: Report) -> list[Section]:
    """All of them; what a run does not have leaves no heading."""
    found = [
        verdict.section(report),
        *results.sections(report),
        *decisions.sections(report),
        training.section(report),
        reinforced.section(report),
        seeds.section(report),
        parts.slices(report),
        parts.faithfulness(report),
        mistakes.section(report),
        teaching.section(report),
        hardness.section(report),
        origin.setup(report),
        origin.data(report),
        reads.section(report),
        costs.section(report),
        origin.provenance(report),
        untested.section(report),
        origin.files(report),
    ]
    return [section for section in found if section is not None]


def of_baselines(compared: Compared, sampled: Mapping[str, Any] | None) -> list[Section]:
    """What there is to say before any student is trained; `sampled` is sample_summary.json of train."""
    found = [
        *results.sections(compared),
        *decisions.sections(compared),
        None if sampled is None else teaching.on_train(sampled),
    ]
    return [section for section in found if section is not None]
