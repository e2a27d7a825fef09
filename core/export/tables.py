"""The report's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from core.evaluation.metrics import value
from core.export.inputs import CurvePoint, Entry, Funnel, ReportInputs, SplitSize
from core.export.markdown import code, number, plain, table

COMPARED = {
    "AUROC": "auroc",
    "AUPRC": "auprc",
    "macro-F1": "macro_f1",
    "balanced accuracy": "balanced_accuracy",
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "MCC": "mcc",
    "log loss": "log_loss",
    "Brier": "brier",
    "invalid": "invalid_label_rate",
    "threshold": "decision_threshold",
}
CURVE = {
    "macro-F1": "macro_f1",
    "AUROC": "auroc",
    "AUPRC": "auprc",
    "balanced accuracy": "balanced_accuracy",
    "log loss": "log_loss",
    "Brier": "brier",
    "invalid": "invalid_label_rate",
    "threshold": "decision_threshold",
}


def setup(inputs: ReportInputs) -> str:
    """What was run."""
    rows = [
        ("Run", code(inputs.run_name)),
        ("Base model", code(inputs.base_model)),
        ("Engine", plain(inputs.engine)),
        ("Target", plain(inputs.target)),
        ("Rulebook in the student's prompt", "yes" if inputs.rulebook_in_prompt else "no"),
        ("Rows", plain(", ".join(f"{s.rows} {s.name}" for s in inputs.sizes))),
        ("Chosen step", str(inputs.selection.step)),
        ("Threshold, from val", plain(_threshold(inputs))),
    ]
    return table(["", ""], rows, left=2)


def comparison(entries: Sequence[Entry]) -> str:
    """All entries and all metrics; the student in bold."""
    rows = [[_title(e), *(number(value(e.metrics, name)) for name in COMPARED.values())] for e in entries]
    return table(["", *COMPARED], rows)


def confusion(entries: Sequence[Entry]) -> str:
    """Counts of right and wrong decisions."""
    head = ["", "true positives", "false positives", "false negatives", "true negatives"]
    counts = [(e, (e.metrics.tp, e.metrics.fp, e.metrics.fn, e.metrics.tn)) for e in entries]
    return table(head, [[_title(e), *map(str, four)] for e, four in counts])


def curve(points: Sequence[CurvePoint], chosen: int) -> str:
    """Val by step, the chosen step in bold."""
    rows = []
    for p in points:
        step = f"**{p.step}**" if p.step == chosen else str(p.step)
        cells = [number(value(p.metrics, name)) for name in CURVE.values()]
        rows.append([step, number(p.train_loss), *cells])
    return table(["step", "train loss", *CURVE], rows, left=0)


def funnel(f: Funnel) -> str:
    """What became of the train texts, by gold label."""
    lines = [("Train texts", f.negative, f.positive)]
    lines += [(f"rejected: {r.rule}", r.negative, r.positive) for r in f.rejected]
    lines += [("Accepted", f.accepted_negative, f.accepted_positive)]
    rows = [[plain(name), str(n), str(p), str(n + p)] for name, n, p in lines]
    if f.missing:
        rows.insert(1, ["without an answer", "", "", str(f.missing)])
    rows.append(
        ["Share accepted", _share(f.accepted_negative, f.negative), _share(f.accepted_positive, f.positive)]
    )
    rows[-1].append(_share(f.accepted_negative + f.accepted_positive, f.negative + f.positive))
    return table(["", "gold negative", "gold positive", "all"], rows)


def sizes(splits: Sequence[SplitSize]) -> str:
    """Rows and positives of each split."""
    rows = [[plain(s.name), str(s.rows), str(s.positive), _share(s.positive, s.rows)] for s in splits]
    return table(["split", "rows", "positive", "share"], rows)


def timings(seconds: Mapping[str, float]) -> str:
    """Seconds by stage, and all of them."""
    rows = [[plain(stage), f"{s:.1f}"] for stage, s in seconds.items()]
    return table(["stage", "seconds"], [*rows, ["all", f"{sum(seconds.values()):.1f}"]])


def _threshold(inputs: ReportInputs) -> str:
    student = next((e for e in inputs.entries if e.kind == "student"), None)
    at = "" if student is None else f"{number(student.metrics.decision_threshold)}, "
    return at + inputs.threshold_reason


def _title(entry: Entry) -> str:
    return f"**{plain(entry.title)}**" if entry.kind == "student" else plain(entry.title)


def _share(part: int, whole: int) -> str:
    return number(part / whole if whole else None, 3)
