"""The worst errors: wrong decisions, the most confident first, those without a probability last."""

from __future__ import annotations

import dataclasses

from hypothesis import given

from core.config import CalibrationConfig, ThresholdConfig
from core.evaluation.calibration import Calibrator
from core.evaluation.decision import Decision, fit_decision
from core.evaluation.predictions import Generated, Predictions
from core.records import Example
from core.report.scorer_sections import MOST_LISTED, worst
from tests.core.evaluation.scored import ROWS, Row, Scored, as_rows, draw, predictions


def examples(rows: Predictions) -> list[Example]:
    return [Example(name, f"text {name}", int(up)) for name, up in zip(rows.ids, rows.positive, strict=True)]


def at(threshold: float | None) -> Decision:
    return Decision(Calibrator.identity("none"), threshold, "by definition")


@given(ROWS)
def test_errors_are_exactly_the_wrong_decisions_sorted_by_confidence(drawn: Scored) -> None:
    rows = as_rows(drawn)
    found = worst(examples(rows), rows, at(0.5))
    wrong = [
        name
        for name, (gold, p) in zip(rows.ids, drawn, strict=True)
        if (p is not None and p >= 0.5) != (gold == 1)
    ]
    assert sorted(m.id for m in found) == sorted(wrong)
    # Log odds are clipped, so the last digits of probabilities near 0 and 1 do not affect the order.
    sure = [-1.0 if m.probability is None else round(abs(m.probability - 0.5), 9) for m in found]
    assert sure == sorted(sure, reverse=True)
    assert all(m.decision != m.gold for m in found)


def test_errors_are_decided_on_calibrated_probabilities() -> None:
    rows = draw(300, seed=3, apart=0.2).rows()
    decided = fit_decision(rows, ThresholdConfig(), CalibrationConfig(method="platt"))
    frozen = Decision(decided.calibrator, decided.threshold.value, decided.threshold.reason)
    found = worst(examples(rows), rows, frozen)
    calibrated = dict(zip(rows.ids, decided.calibrator.apply_to(rows).probability, strict=True))
    assert decided.metrics is not None
    assert len(found) == (decided.metrics["fp"] or 0) + (decided.metrics["fn"] or 0)
    assert all(m.probability == calibrated[m.id] for m in found)


def test_errors_are_limited_and_need_a_threshold() -> None:
    rows = draw(4_000, seed=1, apart=0.0).rows()
    assert len(worst(examples(rows), rows, at(0.5))) == MOST_LISTED
    assert len(worst(examples(rows), rows, at(0.5), most=7)) == 7
    assert worst(examples(rows), rows, at(None)) == []
    assert worst([], as_rows([]), at(0.5)) == []


def test_failed_rows_are_not_errors() -> None:
    rows = as_rows([(1, 0.1), (1, None), (0, 0.9)])
    rows = dataclasses.replace(rows, errors=(None, "timed out", None))
    assert {m.id for m in worst(examples(rows), rows, at(0.5))} == {"r0", "r2"}


def test_an_error_has_its_text_reasoning_and_cited_rules() -> None:
    said = "R2 and R1 hold, R2 above all."
    row = predictions([Row("a", 1, 0.2, generated=Generated(said, said, 0))])
    (found,) = worst([Example("a", "the text", 1)], row, at(0.5), ("R1", "R2"))
    assert (found.text, found.reasoning, found.cited, found.stated) == ("the text", said, ("R2", "R1"), 0)
    assert (found.gold, found.decision, found.probability, found.threshold) == (1, 0, 0.2, 0.5)


def test_errors_with_probabilities_0_and_1_come_first() -> None:
    rows = as_rows([(1, 0.4), (1, 0.0), (0, 1.0), (0, 0.9)])
    found = [m.id for m in worst(examples(rows), rows, at(0.5))]
    assert set(found[:2]) == {"r1", "r2"}
    assert found[2:] == ["r3", "r0"]
