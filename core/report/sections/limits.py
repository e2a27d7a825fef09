"""What the numbers do not show: how often test was read, and what was not tested."""

from __future__ import annotations

from core.evaluation.analysis import Analysis, ProbabilityAnalysis
from core.evaluation.intervals import TOO_FEW
from core.report.data import ReportData
from core.report.document import Bullets, Cell, Prose, Section, Table, section
from core.report.text import begins, plural, were


@section("reads of test", order=300)
def reads(data: ReportData) -> Section | None:
    """Every student measured on this test split under the root; None if none was counted."""
    if not data.reads:
        return None
    rows = [[Cell(r.run, code=True), Cell(r.at), Cell(r.what)] for r in data.reads]
    table = Table(["run", "when", "what was measured"], rows, left=3)
    return Section("reads", "Who has read test", [Prose(_meaning(data), _several(data)), table])


def selected_on_test(data: ReportData) -> list[str]:
    """Return the warning for the verdict, if there is one."""
    return [_meaning(data)] if _several(data) else []


def _meaning(data: ReportData) -> str:
    n = len(data.reads)
    if n == 1:
        return (
            "One student was measured on this test split, with checkpoint, calibration and threshold frozen "
            "before: nothing was chosen by its results."
        )
    if not _several(data):
        return (
            f"{n} students were measured on this test split, one of each seed of this run: the seeds were "
            "named in advance, and nothing was chosen among them by these results."
        )
    runs = len({r.run for r in data.reads})
    return (
        f"{n} students of {plural(runs, 'run')} under this root were measured on this test split. Choosing "
        "among them by these results selects on test: the best of several looks better than it is, and only "
        "rows that none of them was measured on can show by how much."
    )


def _several(data: ReportData) -> bool:
    """Whether more were measured than one student, or one of each seed."""
    runs = [r.run for r in data.reads]
    seeds = {data.run_name, *(s.run for s in data.seeds)}
    return len(runs) > 1 and (len(set(runs)) < len(runs) or not set(runs) <= seeds)


@section("what was not tested", order=600)
def untested(data: ReportData) -> Section:
    """Always there: something is always untested."""
    return Section("untested", "What was not tested", [Bullets(sentences(data))])


def sentences(data: ReportData) -> list[str]:
    """Return the limits of the results, the most serious first."""
    return [
        *_split(data),
        *_decision(data.analysis),
        *_resolution(data),
        *_seeds(data),
        *_groups(data.analysis),
        *_others(data),
        *_reasoning(data),
        "Checkpoint, calibration and threshold were fitted on val, so results on val are too good.",
        "All splits come from the same data: texts of another time or source, or written to mislead, are not "
        "tested.",
        "Gold labels are taken as correct; their errors count against any scorer that is right there.",
        *data.untested,
    ]


def _split(data: ReportData) -> list[str]:
    if data.split == "test":
        return []
    return [
        f"Test was not exported: all results are of {data.split}, on which checkpoint, calibration and "
        "threshold were chosen, and so too good."
    ]


def _decision(analysis: Analysis) -> list[str]:
    student = analysis.first
    if student.threshold is not None:
        return []
    reason = student.threshold_reason if isinstance(student, ProbabilityAnalysis) else "it gives labels only"
    return [
        f"The student has no threshold ({reason}): its ranking was measured, its decisions were not, apart "
        "from those at 0.5."
    ]


def _resolution(data: ReportData) -> list[str]:
    rows, positive, left = data.analysis.rows, data.analysis.positive, data.analysis.left_out
    out = []
    if positive:
        out.append(
            f"{begins(data.split)} has {plural(rows, 'row')}, {positive:,} of them positive: one more text "
            f"found or missed moves recall by {1 / positive:.4f} and accuracy by {1 / rows:.4f}."
        )
    if left:
        out.append(f"{were(left, 'row')} left out for all scorers, because a server failed on one of them.")
    return out


def _seeds(data: ReportData) -> list[str]:
    if data.seeds:
        return []
    return [
        f"One seed ({data.setup.seed}): intervals cover which rows were drawn, not which batches were; "
        "another seed may train a better or a worse student."
    ]


def _groups(analysis: Analysis) -> list[str]:
    if analysis.clustered:
        measured = [i for i in analysis.first.intervals.values() if i.value is not None]
        bare = all(i.note == TOO_FEW for i in measured)
        return [f"{begins(TOO_FEW)}, so nothing is shown to be better or worse."] if bare else []
    return [
        "The data names no groups (data.group_column), so every row counts as independent: if several texts "
        "come from one source, intervals are too narrow."
    ]


def _others(data: ReportData) -> list[str]:
    kinds = {s.kind for s in data.analysis.scorers.values()}
    out = []
    is_gold = data.teacher is not None and data.teacher.is_gold
    if "teacher" not in kinds and not is_gold and data.reinforced is None:
        out.append(
            "The teacher was not asked about these rows, so it is unknown how far the student is behind it "
            "here."
        )
    if "untrained" not in kinds:
        out.append("The untrained model was not measured on these rows: the effect of training is unknown.")
    if "baseline" not in kinds:
        out.append("No baseline was measured: it is unknown whether a simpler model does as well.")
    if len(data.analysis.comparisons) > 1:
        out.append(
            "Intervals of differences and p-values are adjusted for the number of scorers compared, and not "
            "for the number of metrics and slices."
        )
    return out


def _reasoning(data: ReportData) -> list[str]:
    found, rows = data.analysis.faithfulness, data.analysis.rows
    if found is None:
        but = " except for the worst errors" if any(m.reasoning for m in data.mistakes) else ""
        return [
            f"No reasoning was generated{but}: whether the student's reasoning is true was not evaluated."
        ]
    asked = found.with_reasoning.total
    if asked < rows:
        return [f"The student's reasoning was evaluated on {asked:,} of {rows:,} rows only."]
    return []
