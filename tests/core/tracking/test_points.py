"""Points of reinforcement have their own series; undefined metrics are left out."""

from __future__ import annotations

from core.results import Ledger, RunResult, StudentLedger
from core.rl.rewards import RLStep
from core.student.train_stage import TrainStep
from core.tracking.trackers import (
    evaluation_point,
    result_point,
    reward_points,
    training_points,
)
from tests.core.export.making import metrics, with_values


def rl_step(**values: float) -> RLStep:
    """Step 1, with these values defined."""
    counts = ("n_rollouts", "failed_rollouts", "n_groups", "groups_skipped", "updates")
    undefined = ("reward_mean", "batch_acc", "invalid_rate", "answer_tokens", "kl_logprob_diff_mean")
    row = {"step": 1, **dict.fromkeys(counts, 1), **dict.fromkeys(undefined), **values}
    return RLStep.model_validate(row)


def test_rewards_have_their_own_series_without_undefined_values() -> None:
    (point,) = reward_points([rl_step(reward_mean=0.25, batch_acc=0.5)])
    assert (point.series, point.step) == ("rl", 1)
    assert dict(point.values) == {"rl/reward_mean": 0.25, "rl/accuracy": 0.5}


def test_training_and_reinforcement_use_different_names() -> None:
    (trained,) = training_points([TrainStep(step=0, loss=1.0, learning_rate=0.1)])
    (rewarded,) = reward_points([rl_step(loss=1.0, learning_rate=0.1)])
    assert trained.step == rewarded.step == 1
    assert trained.series != rewarded.series
    assert not set(trained.values) & set(rewarded.values)


def test_val_of_training_and_reinforcement_use_different_names() -> None:
    found = with_values(metrics(90), auroc=None)
    before, after = evaluation_point(3, found), evaluation_point(3, found, "rl_val")
    assert before.values["val/macro_f1"] == found["macro_f1"]
    assert "val/auroc" not in before.values
    assert (after.series, after.values["rl_val/f1"]) == ("rl_val", found["f1"])


def test_a_result_without_test_metrics_has_its_cost() -> None:
    ledger = Ledger(usd=2.0, student=StudentLedger(requests=3), seconds={"train": 1.25, "split": 1.0})
    point = result_point(RunResult(run_dir="runs/r", ledger=ledger))
    costs = {name: value for name, value in point.values.items() if value}
    assert costs == {"cost/usd": 2.0, "cost/requests": 3, "cost/seconds": 2.2}
