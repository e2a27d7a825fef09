"""Metrics with chosen qualities, for tests of what is written of them."""

from __future__ import annotations

from core.evaluation.metrics import Metrics, compute
from core.evaluation.selection import EvaluatedCheckpoint, Selection, select
from core.export.inputs import CurvePoint, Entry, Funnel, Kind, ModelBlock, Rejected, ReportInputs, SplitSize
from core.records import ScoredExample


def metrics(right: int, *, n: int = 100) -> Metrics:
    """Of `n` rows, a fifth positive, the first `right` are scored 0.9 for their label, others 0.1."""
    rows = []
    for i in range(n):
        gold = int(i % 5 == 0)
        says_one = (gold == 1) == (i < right)
        rows.append(ScoredExample(f"r{i}", gold, 0.9 if says_one else 0.1, outside=0.0, valid=True))
    return compute(rows, 0.5)


def constant(n: int = 100) -> Metrics:
    """The majority's metrics on the same rows."""
    rows = [ScoredExample(f"r{i}", int(i % 5 == 0), 0.4, outside=0.0, valid=True) for i in range(n)]
    return compute(rows, 0.5)


def entry(title: str, kind: Kind, right: int) -> Entry:
    return Entry(title, kind, metrics(right))


def selection(by_step: dict[int, int]) -> Selection:
    return select([EvaluatedCheckpoint(s, metrics(r)) for s, r in by_step.items()], "macro_f1")


def inputs(entries: list[Entry], by_step: dict[int, int], **changed: object) -> ReportInputs:
    given: dict[str, object] = {
        "run_name": "night",
        "generated_at": "2026-01-02T03:04:05+00:00",
        "base_model": "package://a/b.gguf",
        "engine": "local",
        "target": "label_first",
        "rulebook_in_prompt": False,
        "split": "test",
        "sizes": (SplitSize("train", 400, 160), SplitSize("test", 100, 20)),
        "entries": tuple(entries),
        "selection": selection(by_step),
        "threshold_reason": "largest macro-F1 on 300 rows",
        "curve": tuple(CurvePoint(s, metrics(r), 0.25 if s else None) for s, r in by_step.items()),
        "models": (ModelBlock("best-val model", "runs/night/best", metrics(95)),),
        "funnel": Funnel("recorded", 240, 160, 4, 236, 155, (Rejected("label_mismatch", 2, 3),)),
        **changed,
    }
    return ReportInputs(**given)  # type: ignore[arg-type]
