"""The student's worst errors: wrong decisions that it was most confident of."""

from __future__ import annotations

from collections.abc import Sequence

from core.evaluation.decision import Decision
from core.evaluation.mistakes import surest_wrong
from core.evaluation.predictions import Predictions, optional
from core.records import Example
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
    scored: Predictions,
    decision: Decision,
    rule_ids: tuple[str, ...] = (),
    *,
    most: int = MOST,
) -> list[Mistake]:
    """Return up to `most` examples that are decided wrongly, the most confident first."""
    at = scored.indices()
    kept = [e for e in examples if e.id in at]
    aligned = scored.take([at[e.id] for e in kept])
    calibrated, predicted = decision.calibrated(aligned).probability, decision.predicted(aligned)
    if predicted is None or decision.threshold is None:
        return []
    mistakes = []
    for i in surest_wrong(aligned, decision, most):
        generated = aligned.generated[i]
        rules = () if generated.reasoning is None else cited(generated.reasoning, rule_ids)
        mistakes.append(
            Mistake(
                id=kept[i].id,
                text=kept[i].text,
                gold=kept[i].label,
                decision=int(predicted[i]),
                probability=optional(calibrated[i]),
                threshold=decision.threshold,
                reasoning=generated.reasoning,
                cited=tuple(dict.fromkeys(rules)),
                stated=generated.label,
            )
        )
    return mistakes
