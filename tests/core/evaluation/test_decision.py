"""The decide stage: fitted on val alone, frozen in a file, null with a reason where out of reach."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core import jsonio
from core.config import CalibrationConfig, ThresholdConfig
from core.errors import StageError
from core.evaluation.decision import DecideSettings, Decision, decide
from core.evaluation.metrics import compute
from core.evaluation.predictions import Predictions
from core.evaluation.threshold import choose
from core.records import Example, write_examples
from core.stage import StageIO
from tests.core.evaluation.scored import Row, draw, predictions


def decided(folder: Path, rows: Predictions, **config: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The stage's summary and its file, for rows in groups of three."""
    golds = zip(rows.ids, rows.positive.tolist(), strict=True)
    examples = [Example(name, "a text", int(gold), f"g{i // 3}") for i, (name, gold) in enumerate(golds)]
    write_examples(folder / "split/val.csv", examples)
    rows.write(folder / "scored/scores.jsonl")
    part = DecideSettings.model_validate({"threshold": {}, "calibration": {}, "seed": 1, **config})
    inputs = {"split": folder / "split", "scored": folder / "scored"}
    summary = decide(part, StageIO(inputs, folder / "out"))
    return summary, jsonio.read_json(folder / "out/decision.json")


def test_the_defaults_give_the_threshold_that_checkpoints_are_measured_at(tmp_path: Path) -> None:
    rows = draw(120, seed=1).rows()
    summary, written = decided(tmp_path, rows)
    assert summary["threshold"] == choose(rows.positive, rows.probability).value
    assert summary["calibration"] == "none"
    assert written["metrics"] == json.loads(
        json.dumps(compute(rows, choose(rows.positive, rows.probability).value).to_json())
    )
    assert written["at_default"] == json.loads(json.dumps(compute(rows, 0.5).to_json()))
    assert written["threshold_spread"]["low"] <= summary["threshold"] <= written["threshold_spread"]["high"]
    assert written["clustered"] is True
    assert written["intervals"]["macro_f1"]["method"] == "bootstrap"


def test_what_is_frozen_is_read_back_and_the_threshold_is_of_calibrated_probabilities(tmp_path: Path) -> None:
    rows = draw(300, seed=2, apart=0.2).rows()
    _, written = decided(tmp_path, rows, calibration=CalibrationConfig(method="platt"))
    frozen = Decision.read(tmp_path / "out/decision.json")
    assert frozen.calibrator.kind == "platt"
    assert frozen.threshold is not None
    again = compute(frozen.calibrator.apply_to(rows), frozen.threshold)
    assert again["macro_f1"] == written["threshold"]["reached"] == written["metrics"]["macro_f1"]
    assert again["log_loss"] == pytest.approx(frozen.calibrator.log_loss_after, abs=1e-12)


def test_an_objective_out_of_reach_freezes_no_threshold_and_says_why(tmp_path: Path) -> None:
    rows = predictions([Row(f"r{i}", i % 2, (i % 2) * -0.5 + 0.7) for i in range(20)])
    threshold = ThresholdConfig(objective="recall_at_precision", precision=0.9)
    summary, written = decided(tmp_path, rows, threshold=threshold)
    assert summary["threshold"] is None
    assert summary["reason"] == "no threshold has a precision of 0.9; the highest is 0.5000"
    assert (written["metrics"]["tp"], written["threshold_spread"]) == (None, None)
    assert written["metrics"]["undefined"]["macro_f1"] == summary["reason"]
    assert written["metrics"]["auroc"] == 0
    assert written["intervals"]["accuracy"]["undefined"] == summary["reason"]
    assert written["intervals"]["auroc"]["value"] == 0
    assert Decision.read(tmp_path / "out/decision.json").threshold is None


def test_rows_that_a_server_failed_on_are_fitted_to_nothing(tmp_path: Path) -> None:
    sample = draw(60, seed=3)
    rows = [
        Row(f"r{i}", int(y), p)
        for i, (y, p) in enumerate(zip(sample.positive, sample.probability, strict=True))
    ]
    failed = Row("failed", 1, None, 1.0, error="no answer")
    summary, _ = decided(tmp_path, predictions([*rows, failed]))
    assert summary["rows"] == 60


def test_rows_that_are_not_of_val_are_refused(tmp_path: Path) -> None:
    rows = draw(12, seed=4).rows()
    decided(tmp_path, rows)
    write_examples(
        tmp_path / "split/val.csv", [Example(name, "x", i % 2) for i, name in enumerate(rows.ids[1:])]
    )
    part = DecideSettings(threshold=ThresholdConfig(), calibration=CalibrationConfig(), seed=1)
    io = StageIO({"split": tmp_path / "split", "scored": tmp_path / "scored"}, tmp_path / "out")
    with pytest.raises(StageError, match=r"scores.jsonl contains 1 rows that are not of val, r0 for one"):
        decide(part, io)


def test_of_few_groups_no_range_is_told(tmp_path: Path) -> None:
    _, written = decided(tmp_path, draw(12, seed=1, share=0.5).rows())  # four groups of three
    assert written["threshold_spread"] is None
    assert written["threshold"]["value"] is not None
    assert "fewer than 6 groups" in written["intervals"]["macro_f1"]["note"]
