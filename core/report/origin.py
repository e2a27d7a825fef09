"""What was run on which data, where its files are, and what it can be traced to."""

from __future__ import annotations

from core.report import teaching
from core.report.blocks import UNDEFINED, Block, Bullets, Cell, Prose, Section, Table, cells
from core.report.inputs import Report, Setup
from core.report.words import begins, number

_RATIONALES = {
    "own": "each text's own",
    "shuffled": "those of other texts of the same label, as a control",
    "none": "none: labels alone",
}


def setup(report: Report) -> Section:
    """The configuration in a few lines."""
    s = report.setup
    rows = [
        [Cell("Run"), Cell(report.run_name, code=True)],
        [Cell("Base model"), Cell(s.base_model, code=True)],
        cells("Engine", s.engine),
        cells("Target", s.target),
        cells("Rulebook in the student's prompt", _rulebook(s)),
        cells("Rationales that are learnt", _RATIONALES[s.rationales]),
        cells("Teacher", s.teacher),
        cells("Seed", str(s.seed)),
        cells("Rows", ", ".join(f"{size.rows:,} {size.name}" for size in report.sizes)),
        cells("Chosen step", str(report.selection.step)),
        cells("Calibration", s.calibration),
        cells("Threshold", s.objective),
    ]
    return Section("setup", "What was run", [Table(["", ""], rows, left=2)])


def _rulebook(s: Setup) -> str:
    if s.rulebook_in_prompt:
        return "yes"
    learnt = {"gold": "from the labels", "none": "from rewards"}.get(
        s.teacher, "from the teacher's answers (context distillation)"
    )
    return f"no: what the rules ask has to be learnt {learnt}"


def data(report: Report) -> Section:
    """Rows and positives of each split, and what became of rows that are in none.

    What rejection takes of one class more stands beside the funnel alone.
    """
    rows = [
        cells(
            s.name,
            f"{s.rows:,}",
            f"{s.positive:,}",
            number(s.positive / s.rows if s.rows else None),
        )
        for s in report.sizes
    ]
    blocks: list[Block] = [Table(["split", "rows", "positive", "share"], rows)]
    elsewhere = teaching.skewed(report.teacher or {})
    if notices := [notice for notice in report.notices if notice != elsewhere]:
        blocks.append(Bullets([_sentence(notice) for notice in notices]))
    return Section("data", "Data", blocks)


def _sentence(notice: str) -> str:
    said = begins(notice)
    return said if said.endswith((".", "!", "?")) else f"{said}."


def provenance(report: Report) -> Section | None:
    """Versions, commit and digests."""
    if not report.provenance:
        return None
    rows = [[Cell(name), Cell(value or UNDEFINED, code=bool(value))] for name, value in report.provenance]
    said = "Two runs whose digests are the same had the same data, prompts, rules and settings."
    return Section("provenance", "Versions and digests", [Prose(said), Table(["", ""], rows, left=2)])


def files(report: Report) -> Section | None:
    """Where to look for what is not here."""
    if not report.files:
        return None
    rows = [[Cell(name, code=True), Cell(what)] for name, what in report.files.items()]
    said = "These files, in the run's folder, have the texts and the rest."
    return Section("files", "Where to look", [Prose(said), Table(["file", "what is in it"], rows, left=2)])
