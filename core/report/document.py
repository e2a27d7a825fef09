"""The report's sections in the order they are read, the same for Markdown and for the page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from core.optional import Failure, Failures, Part, strict
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
from core.report.blocks import Prose, Section, Table, cells
from core.report.inputs import Compared, Report

_Built = Section | Sequence[Section] | None


def sections(report: Report, failures: Failures | None = None) -> list[Section]:
    """All of them; what a run does not have leaves no heading, nor does a section that fails.

    A failure is recorded in `failures`, or raised without it. Where the parts that failed are listed is not
    among the sections; see `left_out`.
    """
    failures = failures if failures is not None else strict()
    builders: Mapping[str, Callable[[Report], _Built]] = {
        "verdict": verdict.section,
        "results": results.sections,
        "decisions": decisions.sections,
        "training": training.section,
        "reinforcement": reinforced.section,
        "seeds": seeds.section,
        "slices": parts.slices,
        "faithfulness": parts.faithfulness,
        "errors": mistakes.section,
        "teacher": teaching.section,
        "hard texts": hardness.section,
        "setup": origin.setup,
        "data": origin.data,
        "reads of test": reads.section,
        "costs": costs.section,
        "provenance": origin.provenance,
        "what was not tested": untested.section,
        "files": origin.files,
    }
    found: list[Section] = []
    for name, build in builders.items():
        with failures.optional(Part.SECTION, name):
            built = build(report)
            found += [built] if isinstance(built, Section) else built or []
    return found


def left_out(failures: Iterable[Failure]) -> list[Section]:
    """The section that names each optional part that failed or was impossible; none where there is none."""
    rows = [cells(failure.part, failure.error, failure.message) for failure in failures]
    if not rows:
        return []
    is_are = "1 optional part is" if len(rows) == 1 else f"{len(rows)} optional parts are"
    said = (
        f"{is_are} missing from this run: failed, or impossible with this data. The student, its predictions "
        "and its decision do not depend on them. The same command tries them again; train.log has details."
    )
    table = Table(["part", "error", "cause"], rows, left=3)
    return [Section("left-out", "Left out of this run", [Prose(said, warning=True), table])]


def of_baselines(
    compared: Compared, sampled: Mapping[str, Any] | None, failures: Iterable[Failure] = ()
) -> list[Section]:
    """What there is to say before any student is trained; `sampled` is sample_summary.json of train."""
    found = [
        *left_out(failures),
        *results.sections(compared),
        *decisions.sections(compared),
        None if sampled is None else teaching.on_train(sampled),
    ]
    return [section for section in found if section is not None]
