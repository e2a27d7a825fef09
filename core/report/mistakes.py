"""The student's worst errors: where it was surest and wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from core.evaluation.columns import predict
from core.evaluation.decision import Decision
from core.evaluation.mistakes import surest_wrong
from core.records import Example, ScoredExample
from core.rejection.cited import cited
from core.report.blocks import Mistakes, Prose, Section
from core.report.inputs import Mistake, Report
from core.report.scorers import student
from core.report.words import plural

MOST = 200


def worst(
    examples: Sequence[Example],
    rows: Iterable[ScoredExample],
    decision: Decision,
    rule_ids: tuple[str, ...] = (),
    *,
    most: int = MOST,
) -> list[Mistake]:
    """At most `most` rows that are decided wrongly, the surest first; see core.evaluation.mistakes."""
    at = decision.threshold
    if at is None:
        return []
    by_id = {row.example_id: row for row in rows}
    scored = [e for e in examples if e.id in by_id]
    raw = [by_id[e.id] for e in scored]
    places = surest_wrong(raw, decision, most)
    calibrated = decision.calibrator.apply_to([raw[i] for i in places])
    return [_mistake(scored[i], row, at, rule_ids) for i, row in zip(places, calibrated, strict=True)]


def _mistake(example: Example, row: ScoredExample, at: float, rule_ids: tuple[str, ...]) -> Mistake:
    reasoning = row.reasoning
    named = () if reasoning is None else tuple(dict.fromkeys(cited(reasoning, rule_ids)))
    return Mistake(
        id=example.id,
        text=example.text,
        gold=example.label,
        decision=predict(row.probability, at),
        probability=row.probability,
        threshold=at,
        reasoning=reasoning,
        cited=named,
        stated=row.emitted_label,
    )


def section(report: Report) -> Section | None:
    """The errors with their texts, which stand on the page only; None where no decision was made."""
    counts = student(report)["counts"]
    if counts is None:
        return None
    wrong = counts["fp"] + counts["fn"]
    if not wrong:
        return Section(
            "errors", "The worst errors", [Prose(f"No text of {report.split} is decided wrongly.")]
        )
    missed = f"{plural(counts['fn'], 'positive')} missed, {plural(counts['fp'], 'negative')} flagged"
    said = f"Decided wrongly on {report.split}: {plural(wrong, 'text')} ({missed})."
    if report.mistakes:
        shown = len(report.mistakes)
        which = "All of them are" if shown >= wrong else f"The {shown:,} surest of them are"
        which = "It is" if wrong == 1 else which
        said += f" {which} on the page report.html{'' if wrong == 1 else ', the surest first'}."
    return Section("errors", "The worst errors", [Prose(said), Mistakes(report.mistakes)])
