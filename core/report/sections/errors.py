"""The student's worst errors: wrong decisions that it was most confident of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from core.evaluation.columns import predict
from core.evaluation.decision import Decision
from core.evaluation.mistakes import surest_wrong
from core.records import Example, ScoredExample
from core.rejection.cited import cited
from core.report.data import Mistake, ReportData
from core.report.document import Mistakes, Prose, Section, section
from core.report.text import plural

MOST = 200


@section("errors", order=150)
def errors(data: ReportData) -> Section | None:
    """The errors with their texts, which are on the page only; None if no decision was made."""
    counts = data.analysis.first.counts
    if counts is None:
        return None
    wrong = counts.fp + counts.fn
    if not wrong:
        text = f"No text of {data.split} is decided wrongly."
        return Section("errors", "The worst errors", [Prose(text)])
    missed = f"{plural(counts.fn, 'positive')} missed, {plural(counts.fp, 'negative')} flagged"
    text = f"Decided wrongly on {data.split}: {plural(wrong, 'text')} ({missed})."
    shown = len(data.mistakes)
    if shown and wrong == 1:
        text += " It is on the page report.html."
    elif shown:
        which = "All of them are" if shown >= wrong else f"The {shown:,} most confident of them are"
        text += f" {which} on the page report.html, the most confident first."
    return Section("errors", "The worst errors", [Prose(text), Mistakes(data.mistakes)])


def worst(
    examples: Sequence[Example],
    rows: Iterable[ScoredExample],
    decision: Decision,
    rule_ids: tuple[str, ...] = (),
    *,
    most: int = MOST,
) -> list[Mistake]:
    """Return up to `most` rows that are decided wrongly, the most confident first."""
    threshold = decision.threshold
    if threshold is None:
        return []
    by_id = {row.example_id: row for row in rows}
    scored = [e for e in examples if e.id in by_id]
    raw = [by_id[e.id] for e in scored]
    places = surest_wrong(raw, decision, most)
    calibrated = decision.calibrator.apply_to([raw[i] for i in places])
    return [_mistake(scored[i], row, threshold, rule_ids) for i, row in zip(places, calibrated, strict=True)]


def _mistake(example: Example, row: ScoredExample, threshold: float, rule_ids: tuple[str, ...]) -> Mistake:
    reasoning = row.reasoning
    rules = () if reasoning is None else tuple(dict.fromkeys(cited(reasoning, rule_ids)))
    return Mistake(
        id=example.id,
        text=example.text,
        gold=example.label,
        decision=predict(row.probability, threshold),
        probability=row.probability,
        threshold=threshold,
        reasoning=reasoning,
        cited=rules,
        stated=row.emitted_label,
    )
