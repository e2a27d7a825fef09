"""What the figures do not show, in sentences that follow from the facts."""

from __future__ import annotations

from core.evaluation.intervals import TOO_FEW
from core.report.blocks import Bullets, Section
from core.report.inputs import Report
from core.report.scorers import scorers, student
from core.report.words import begins, plural, were


def section(report: Report) -> Section:
    """Always there: something is always untested."""
    return Section("untested", "What was not tested", [Bullets(sentences(report))])


def sentences(report: Report) -> list[str]:
    """The gravest first."""
    return [
        *_split(report),
        *_decision(report),
        *_grain(report),
        *_seeds(report),
        *_groups(report),
        *_others(report),
        *_reasoning(report),
        *_val(report),
        "All splits are of the same data: texts of another time or source, or made to mislead, are untried.",
        "Gold labels are taken as right; what they miss or mistake counts against whoever sees it better.",
        *report.untested,
    ]


def _split(report: Report) -> list[str]:
    if report.split == "test":
        return []
    return [
        f"Test was not exported: all figures are of {report.split}, on which checkpoint, calibration and "
        "threshold were chosen, and so too good."
    ]


def _decision(report: Report) -> list[str]:
    of = student(report)
    if of["threshold"] is not None:
        return []
    return [
        f"The student has no threshold ({of['threshold_reason']}): its ranking was measured, its decisions "
        "were not, apart from those at 0.5."
    ]


def _grain(report: Report) -> list[str]:
    rows, positive = report.analysis["rows"], report.analysis["positive"]
    out = []
    if positive:
        out.append(
            f"{begins(report.split)} has {plural(rows, 'row')}, {positive:,} of them positive: one more text "
            f"found or missed moves recall by {1 / positive:.4f} and accuracy by {1 / rows:.4f}."
        )
    if left := report.analysis["left_out"]:
        out.append(f"{were(left, 'row')} left out for all scorers, because a server failed on one of them.")
    return out


def _seeds(report: Report) -> list[str]:
    if report.seeds:
        return []
    return [
        f"One seed ({report.setup.seed}): intervals are about which rows were drawn, not about which batches "
        "were; another seed may train a better or a worse student."
    ]


def _groups(report: Report) -> list[str]:
    if report.analysis["clustered"]:
        bare = student(report)["intervals"]["log_loss"]["note"] == TOO_FEW
        return [f"{begins(TOO_FEW)}, so nothing is shown to be better or worse."] if bare else []
    return [
        "The data names no groups (data.group_column), so every row counts as independent: where several "
        "texts come from one source, intervals are too narrow."
    ]


def _others(report: Report) -> list[str]:
    kinds = {s["kind"] for s in scorers(report)}
    out = []
    gold = report.teacher is not None and report.teacher["teacher_kind"] == "gold"
    if "teacher" not in kinds and not gold and report.reinforced is None:
        out.append(
            "The teacher was not asked about these rows, so how far the student falls behind it here is not "
            "known."
        )
    if "untrained" not in kinds:
        out.append("The untrained model was not measured on these rows: what training brought is not known.")
    if "baseline" not in kinds:
        out.append("No baseline was measured: whether a simpler model does as well is not known.")
    if len(report.analysis["comparisons"]) > 1:
        out.append(
            "Intervals of differences and p-values are adjusted for the scorers compared, and not for the "
            "metrics and parts looked at."
        )
    return out


def _reasoning(report: Report) -> list[str]:
    found, rows = report.analysis["faithfulness"], report.analysis["rows"]
    if found is None:
        but = " but for the worst errors" if any(m.reasoning for m in report.mistakes) else ""
        return [
            f"No reasoning was generated{but}: whether what the student writes is true was not looked at."
        ]
    asked = found["with_reasoning"]["total"]
    if asked < rows:
        return [f"What the student writes was judged on {asked:,} of {rows:,} rows alone."]
    return []


def _val(report: Report) -> list[str]:
    return ["Checkpoint, calibration and threshold were fitted on val, so the figures there are too good."]
