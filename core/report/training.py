"""The learning curve on val, as a picture and as a table."""

from __future__ import annotations

from core.evaluation.metrics import value
from core.report.blocks import Block, Cell, Prose, Section, Table
from core.report.inputs import Report
from core.report.plots.curve import learning_curve
from core.report.words import number

CURVE = {
    "macro-F1": "macro_f1",
    "AUROC": "auroc",
    "AUPRC": "auprc",
    "balanced accuracy": "balanced_accuracy",
    "log loss": "log_loss",
    "Brier": "brier",
    "without a label": "invalid_label_rate",
    "threshold": "decision_threshold",
}


def section(report: Report) -> Section | None:
    """Val by step, the chosen step in bold."""
    if not report.curve:
        return None
    begun = "the untrained model" if report.reinforced is None else report.reinforced.start
    intro = (
        f"Step 0 is {begun}. Each row has its own threshold, chosen on the same rows: the curve "
        f"is for choosing a step, the table of {report.split} is the result."
    )
    has_loss = report.reinforced is None
    rows = [
        [
            Cell(str(p.step)),
            *([Cell(number(p.train_loss))] if has_loss else []),
            *(Cell(number(value(p.metrics, name))) for name in CURVE.values()),
        ]
        for p in report.curve
    ]
    chosen = frozenset(i for i, p in enumerate(report.curve) if p.step == report.selection.step)
    table = Table(["step", *(["train loss"] if has_loss else []), *CURVE], rows, left=0, strong=chosen)
    picture = learning_curve(report)
    blocks: list[Block] = [Prose(intro), *([picture] if picture else []), table]
    return Section("curve", "Learning curve on val", blocks)
