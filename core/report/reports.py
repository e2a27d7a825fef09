"""The reports of runs and of baselines, as lists of sections. The model card is in core.bundle.card."""

from __future__ import annotations

from core.optional import Failures
from core.report.data import BaselineData, ReportData
from core.report.document import Document, build_sections, run_sections
from core.report.sections.decisions import probabilities, threshold
from core.report.sections.results import comparisons, default, results
from core.report.sections.teaching import teacher_on_train


def run_report(data: ReportData, failures: Failures) -> Document:
    """Return the report of a run, or of its reinforcement; sections that fail are recorded in `failures`."""
    state = data.resume_state_path
    return Document(
        title=f"Test report: {data.run_name}",
        sections=run_sections(data, failures),
        generated_at=data.generated_at,
        kind="Report of a run",
        name=data.run_name,
        facts=(f"measured on {data.split}", data.setup.base_model, data.generated_at),
        lines=() if state is None else (("resume_state_path", state),),
    )


def baseline_report(data: BaselineData, failures: Failures) -> Document:
    """Return the report of scorers that need no training; sections that fail are recorded in `failures`."""
    builders = {
        "results": results,
        "comparisons": comparisons,
        "default": default,
        "threshold": threshold,
        "probabilities": probabilities,
        "teacher": teacher_on_train,
    }
    return Document(
        title=f"Baselines: {data.run_name}",
        sections=build_sections(builders, data, failures),
        generated_at=data.generated_at,
        kind="Report of baselines",
        name=data.run_name,
        facts=(f"measured on {data.split}", data.setup.base_model, data.generated_at),
    )
