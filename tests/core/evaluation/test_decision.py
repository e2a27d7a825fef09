"""The decide stage, fitted on val alone; the selection of a checkpoint; early stopping."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import jsonio
from core.config import METRICS, CalibrationConfig, Config, EarlyStopping, ThresholdConfig
from core.errors import StageError
from core.evaluation.calibration import Calibrator
from core.evaluation.decision import (
    DecideSettings,
    Decision,
    decide,
    fit_decision,
    select,
    should_stop,
    worst_errors,
)
from core.evaluation.metrics import Metrics, compute
from core.evaluation.predictions import Predictions
from core.evaluation.threshold import choose
from core.records import Example, write_examples
from core.stage import StageIO
from tests.core.evaluation.scored import Row, draw, predictions


def decided(folder: Path, rows: Predictions, **config: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The summary and the file of the stage, for rows in groups of three."""
    golds = zip(rows.ids, rows.positive.tolist(), strict=True)
    examples = [Example(name, "a text", int(gold), f"g{i // 3}") for i, (name, gold) in enumerate(golds)]
    write_examples(folder / "split/val.csv", examples)
    rows.write(folder / "scored/scores.jsonl")
    part = DecideSettings.model_validate({"threshold": {}, "calibration": {}, "seed": 1, **config})
    inputs = {"split": folder / "split", "scored": folder / "scored"}
    summary = decide(part, StageIO(inputs, folder / "out"))
    return summary, jsonio.read_json(folder / "out/decision.json")


def test_the_default_threshold_is_that_of_checkpoints(tmp_path: Path) -> None:
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


def test_a_decision_reads_back_and_its_threshold_is_on_calibrated_probabilities(tmp_path: Path) -> None:
    rows = draw(300, seed=2, apart=0.2).rows()
    _, written = decided(tmp_path, rows, calibration=CalibrationConfig(method="platt"))
    frozen = Decision.read(tmp_path / "out/decision.json")
    assert frozen.calibrator.kind == "platt"
    assert frozen.threshold is not None
    again = compute(frozen.calibrator.apply_to(rows), frozen.threshold)
    assert again["macro_f1"] == written["threshold"]["reached"] == written["metrics"]["macro_f1"]
    assert again["log_loss"] == pytest.approx(frozen.calibrator.log_loss_after, abs=1e-12)


def test_an_unreachable_objective_gives_no_threshold_and_a_reason(tmp_path: Path) -> None:
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


def test_failed_rows_are_left_out_of_the_fit(tmp_path: Path) -> None:
    sample = draw(60, seed=3)
    rows = [
        Row(f"r{i}", int(y), p)
        for i, (y, p) in enumerate(zip(sample.positive, sample.probability, strict=True))
    ]
    failed = Row("failed", 1, None, 1.0, error="no answer")
    summary, _ = decided(tmp_path, predictions([*rows, failed]))
    assert summary["rows"] == 60


def test_rows_outside_val_are_refused(tmp_path: Path) -> None:
    rows = draw(12, seed=4).rows()
    decided(tmp_path, rows)
    write_examples(
        tmp_path / "split/val.csv", [Example(name, "x", i % 2) for i, name in enumerate(rows.ids[1:])]
    )
    part = DecideSettings(threshold=ThresholdConfig(), calibration=CalibrationConfig(), seed=1)
    io = StageIO({"split": tmp_path / "split", "scored": tmp_path / "scored"}, tmp_path / "out")
    with pytest.raises(StageError, match=r"scores.jsonl contains 1 rows that are not of val, r0 for one"):
        decide(part, io)


def test_few_groups_give_no_threshold_spread(tmp_path: Path) -> None:
    _, written = decided(tmp_path, draw(12, seed=1, share=0.5).rows())  # four groups of three
    assert written["threshold_spread"] is None
    assert written["threshold"]["value"] is not None
    assert "fewer than 6 groups" in written["intervals"]["macro_f1"]["note"]


def at(*, right: int, of: int = 10) -> Metrics:
    """Metrics of a checkpoint whose accuracy is `right` of `of`, and whose probabilities are 0.1 and 0.9."""
    rows = []
    for i in range(of):
        gold = i % 2
        says = gold if i < right else 1 - gold
        rows.append(Row(f"r{i}", gold, 0.9 if says else 0.1))
    return compute(predictions(rows), 0.5)


@settings(max_examples=30)
@given(st.lists(st.integers(1, 10), min_size=1, max_size=8), st.randoms())
def test_the_earliest_of_the_best_steps_is_selected_in_any_order(right: list[int], random: object) -> None:
    made = [(10 * i, at(right=r)) for i, r in enumerate(right)]
    random.shuffle(made)  # type: ignore[attr-defined]
    chosen = select(dict(made), "accuracy")
    assert chosen.step == 10 * right.index(max(right))
    assert chosen.value == pytest.approx(max(right) / 10)
    assert chosen.beats_untrained is (max(right) > right[0])


def test_the_smallest_log_loss_is_selected_and_its_score_is_negated() -> None:
    chosen = select({0: at(right=5), 10: at(right=9), 20: at(right=7)}, "log_loss")
    assert chosen.step == 10
    assert chosen.value is not None
    assert chosen.score == -chosen.value


def test_the_reason_states_that_no_checkpoint_beats_the_untrained_model() -> None:
    chosen = select({0: at(right=9), 10: at(right=9), 20: at(right=8)}, "accuracy")
    assert chosen.step == 0
    assert chosen.beats_untrained is False
    assert chosen.reason == (
        "No trained checkpoint beats the untrained model on val: its accuracy of 0.900 is the best "
        "of 3 evaluations, so training taught nothing that val shows."
    )


def test_the_reason_compares_the_best_step_with_the_untrained_model() -> None:
    chosen = select({0: at(right=5), 10: at(right=9)}, "accuracy")
    assert chosen.reason == (
        "Step 10 has the best accuracy on val, 0.900, of 2 evaluations; the untrained model has 0.500."
    )


@pytest.mark.parametrize("metric", tuple(METRICS))
def test_the_reason_uses_the_title_of_the_metric(metric: str) -> None:
    for made in ({0: at(right=5), 10: at(right=9)}, {0: at(right=9)}):
        assert f" {METRICS.get(metric).title} " in select(made, metric).reason


def test_an_undefined_value_is_worse_than_any_other() -> None:
    one_class = predictions([Row("r", 0, 0.2)])
    untrained = compute(one_class, 0.5)
    chosen = select({0: untrained, 10: at(right=1)}, "auroc")
    assert (chosen.step, chosen.beats_untrained) == (10, True)
    assert "the untrained model has undefined" in chosen.reason
    undefined = select({0: untrained}, "auroc")
    assert undefined.value is None
    assert undefined.reason == "On val AUROC is undefined at all 1 evaluations; step 0 is the earliest."


def test_beats_untrained_is_unknown_without_step_zero() -> None:
    chosen = select({10: at(right=5), 20: at(right=9)}, "accuracy")
    assert chosen.beats_untrained is None
    assert chosen.reason.endswith("the untrained model was not evaluated.")


def test_selecting_without_evaluations_is_refused() -> None:
    with pytest.raises(StageError, match="no checkpoint was evaluated"):
        select({}, "accuracy")


@pytest.mark.parametrize(
    ("values", "metric", "min_delta", "stops"),
    [
        ([], "accuracy", 0.0, False),
        ([0.5], "accuracy", 0.0, False),
        ([0.5, 0.5, 0.5], "accuracy", 0.0, True),
        ([0.5, 0.6, 0.6], "accuracy", 0.0, False),
        ([0.5, 0.6, 0.6, 0.5], "accuracy", 0.0, True),
        ([0.5, 0.6, 0.6, 0.7], "accuracy", 0.0, False),
        ([0.5, 0.51, 0.52], "accuracy", 0.05, True),
        ([0.5, 0.53, 0.56], "accuracy", 0.05, False),  # small steps add up relative to the last improvement
        ([0.5, 0.4, 0.3], "log_loss", 0.0, False),
        ([0.5, 0.6, 0.7], "log_loss", 0.0, True),
        ([None, None, None], "accuracy", 0.0, True),
        ([None, 0.1, None], "accuracy", 0.0, False),
    ],
)
def test_training_stops_after_two_evaluations_without_improvement(
    values: list[float | None], metric: str, min_delta: float, stops: bool
) -> None:
    assert should_stop(values, EarlyStopping(patience=2, min_delta=min_delta), metric) is stops


def test_training_does_not_stop_without_early_stopping() -> None:
    assert not should_stop([0.9, 0.1, 0.1, 0.1, 0.1], None, "accuracy")


COLD = Calibrator("temperature", {"temperature": 2.0}, "temperature", 9, 4, 0.7, 0.6, "as asked")


def test_a_decision_calibrates_before_it_compares_with_its_threshold() -> None:
    rows = predictions([Row("a", 1, 0.8), Row("b", 0, 0.6), Row("c", 1, None), Row("d", 0, 0.9, error="x")])
    decision = Decision(COLD, 0.6, "why")
    assert decision.calibrated(rows).probability[:2] == pytest.approx([2 / 3, 0.5505], abs=1e-4)
    predicted = decision.predicted(rows)
    assert predicted is not None
    assert predicted.tolist() == [True, False, False, True]
    assert (decision.metrics(rows)["n"], decision.metrics(rows)["decision_threshold"]) == (3, 0.6)
    assert decision.metrics(rows)["brier"] == pytest.approx(((1 / 3) ** 2 + 0.5505**2 + 0.25) / 3, abs=1e-4)
    without = Decision(COLD, None, "out of reach")
    assert without.predicted(rows) is None
    assert without.metrics(rows).undefined["accuracy"] == "out of reach"


def test_a_decision_by_definition_takes_probabilities_as_they_are() -> None:
    rows = predictions([Row("a", 1, 0.5), Row("b", 0, 0.4)])
    decision = Decision.by_definition(0.5)
    assert decision.calibrated(rows) is rows
    assert (decision.threshold, decision.reason, decision.calibrator.kind) == (0.5, "by definition", "none")
    assert decision.calibrator.reason == "by definition"
    assert decision.metrics(rows)["accuracy"] == 1


def test_a_decision_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = draw(120, seed=6, apart=0.2).rows()
    _, written = decided(tmp_path, rows, calibration=CalibrationConfig(method="temperature"))
    frozen = Decision.read(tmp_path / "out/decision.json")
    assert (frozen.threshold, frozen.reason) == (
        written["threshold"]["value"],
        written["threshold"]["reason"],
    )
    assert dict(frozen.calibrator.parameters) == written["calibrator"]["parameters"]
    assert written["default_threshold"] == 0.5


def test_the_worst_errors_are_the_most_confident_ones_first() -> None:
    rows = [
        Row("right", 1, 0.9),
        Row("near", 1, 0.39),
        Row("far", 0, 0.99),
        Row("none", 1, None),
        Row("failed", 1, None, error="x"),
        Row("low", 1, 0.05),
        Row("near too", 1, 0.39),
    ]
    decision = Decision.by_definition(0.4)
    assert worst_errors(predictions(rows), decision, 9) == [2, 5, 1, 6, 3]
    assert worst_errors(predictions(rows), decision, 2) == [2, 5]
    assert worst_errors(predictions(rows), Decision(COLD, None, "none"), 9) == []
    failed = [Row("failed", 0, 0.9, error="x"), Row("wrong", 0, 0.9)]
    assert worst_errors(predictions(failed), decision, 9) == [1]


def test_confidence_is_measured_in_log_odds_of_calibrated_probabilities() -> None:
    """0.6 against 0.999 is farther in log odds than 0.6 against 0.01, and nearer in probability."""
    rows = predictions([Row("a", 1, 0.01), Row("b", 0, 0.999), Row("c", 0, 0.75)])
    assert worst_errors(rows, Decision.by_definition(0.6), 9) == [1, 0, 2]
    # Halved log odds of 0.75 are those of 0.634, below this threshold; the order of the others turns.
    assert worst_errors(rows, Decision(COLD, 0.65, "why"), 9) == [0, 1]


def test_what_is_fitted_without_groups_has_no_clusters_and_uses_the_seed() -> None:
    rows = draw(90, seed=7, apart=0.2).rows()
    one, same, other = (
        fit_decision(rows, ThresholdConfig(), CalibrationConfig(method="platt"), seed=seed)
        for seed in (1, 1, 2)
    )
    assert one == same
    assert not one.clustered
    assert one.intervals["accuracy"].method == "wilson"
    assert one.intervals["auroc"] != other.intervals["auroc"]
    assert one.threshold_spread != other.threshold_spread
    assert one.threshold_spread is not None
    assert one.threshold_spread.objective.value == one.metrics["macro_f1"] == one.threshold.reached
    assert one.metrics["log_loss"] == pytest.approx(one.calibrator.log_loss_after)
    assert one.at_default["log_loss"] == pytest.approx(one.calibrator.log_loss_before)


def test_the_seed_deals_the_folds_of_auto_calibration() -> None:
    rows = draw(90, seed=8, apart=0.2).rows()
    auto = CalibrationConfig(method="auto")
    one, other = (fit_decision(rows, ThresholdConfig(), auto, seed=seed).calibrator for seed in (1, 2))
    assert one.reason != other.reason


def test_settings_of_the_decision_are_those_of_the_config() -> None:
    config = Config.model_validate(
        {
            "run": {"name": "x"},
            "data": {"path": "a.csv"},
            "teacher": {"kind": "gold"},
            "student": {"target": "label_only"},
            "evaluation": {"calibration": {"method": "platt"}},
            "seed": 9,
        }
    )
    settings = DecideSettings.of(config, "val.jsonl")
    assert (settings.calibration.method, settings.seed, settings.scores) == ("platt", 9, "val.jsonl")
    assert settings.threshold == config.evaluation.threshold
    assert DecideSettings.of(config).scores == "scores.jsonl"
