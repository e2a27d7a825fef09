"""Who wins, in sentences that hide neither a baseline's win nor a tie.

All candidates were measured on the same rows. The last step's model is in the table for
information and stands for nothing here: the choice fell on val, and cannot be made again on test.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from core.evaluation.metrics import better, value
from core.export.inputs import Entry

NAMES = {"macro_f1": "macro-F1", "auroc": "AUROC", "auprc": "AUPRC", "f1": "F1", "mcc": "MCC"}
NAMES |= {"balanced_accuracy": "balanced accuracy", "log_loss": "log loss", "brier": "Brier score"}
SHOWN = ("macro_f1", "auroc")
DIGITS = 4


def sentences(entries: Sequence[Entry], split: str, selected_by: str = "macro_f1") -> list[str]:
    """Who is best by macro-F1, AUROC and the metric of selection; what training brought."""
    candidates = [e for e in entries if e.kind != "final"]
    shown = dict.fromkeys([*SHOWN, selected_by])
    said = [s for metric in shown if (s := winner(candidates, metric, split))]
    against = _against_untrained(candidates, split)
    return [*said, *([against] if against else [])]


def winner(entries: Sequence[Entry], metric: str, split: str) -> str | None:
    """One sentence on who is best by `metric` and where the student stands; None if none has it."""
    places = ranking(entries, metric)
    if not places:
        return None
    first, name = places[0], NAMES.get(metric, metric)
    best = _value(first[0], metric)
    titles = _and([e.title for e in first])
    verb = "has" if len(first) == 1 else "share"
    head = f"By {name} on {split}, {titles} {verb} the best value, {best:.{DIGITS}f}."
    return " ".join([head, *_place_of_student(places, metric)])


def ranking(entries: Sequence[Entry], metric: str) -> list[list[Entry]]:
    """Entries from best to worst, those that agree in the digits shown together."""
    defined = [e for e in entries if value(e.metrics, metric) is not None]
    sign = 1 if better(metric, 0.0, 1.0) else -1
    ordered = sorted(defined, key=lambda e: sign * _value(e, metric))
    return [list(same) for _, same in groupby(ordered, key=lambda e: _value(e, metric))]


def _place_of_student(places: Sequence[Sequence[Entry]], metric: str) -> list[str]:
    for place, same in enumerate(places):
        for student in (e for e in same if e.kind == "student"):
            before = [e for better_ones in places[:place] for e in better_ones]
            beaten_by = [e.title for e in before if e.kind == "baseline"]
            if beaten_by:
                return [_beaten(student, metric, beaten_by)]
            if any(e.kind == "baseline" for e in same):
                return ["The student is no better than the best baseline."]
            has = f"The student has {_value(student, metric):.{DIGITS}f}" if before else "The student wins"
            compared = any(e.kind == "baseline" for other in places for e in other)
            return [f"{has}, above every baseline." if compared else f"{has}; no baseline was measured."]
    return []


def _beaten(student: Entry, metric: str, by: Sequence[str]) -> str:
    word = "A baseline beats" if len(by) == 1 else f"{len(by)} baselines beat"
    return f"{word} the student, which has {_value(student, metric):.{DIGITS}f}: {_and(by)}."


def _against_untrained(entries: Sequence[Entry], split: str) -> str | None:
    student = next((e for e in entries if e.kind == "student"), None)
    untrained = next((e for e in entries if e.kind == "untrained"), None)
    if student is None or untrained is None:
        return None
    a, b = student.metrics.macro_f1, untrained.metrics.macro_f1
    if a is None or b is None:
        return None
    a, b = round(a, DIGITS), round(b, DIGITS)
    if a > b:
        return f"Training took macro-F1 on {split} from {b:.{DIGITS}f} (untrained) to {a:.{DIGITS}f}."
    return (
        f"The student does not beat the untrained model on {split}: "
        f"macro-F1 {a:.{DIGITS}f} against {b:.{DIGITS}f}."
    )


def _value(entry: Entry, metric: str) -> float:
    found = value(entry.metrics, metric)
    assert found is not None, entry.title
    return round(found, DIGITS)


def _and(titles: Sequence[str]) -> str:
    return titles[0] if len(titles) == 1 else f"{', '.join(titles[:-1])} and {titles[-1]}"
