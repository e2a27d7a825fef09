"""What trackers are told of reinforcement stands beside the training before it, and not in its place."""

from __future__ import annotations

from core.tracking.records import of_evaluation, of_rewards, of_training

EVALUATION = {"step": 3, "metrics": {"macro_f1": 0.5, "auroc": None}}


def test_rewards_are_a_series_of_their_own_without_what_is_undefined() -> None:
    row = {"step": 1, "loss": None, "reward_mean": 0.25, "batch_acc": 0.5, "groups_skipped": 2}
    (point,) = of_rewards([row])
    assert (point.series, point.step) == ("rl", 1)
    assert dict(point.values) == {"rl/reward_mean": 0.25, "rl/accuracy": 0.5}


def test_a_step_of_training_and_one_of_reinforcement_are_told_apart() -> None:
    trained = next(of_training([{"step": 0, "loss": 1.0, "learning_rate": 0.1}]))
    (rewarded,) = of_rewards([{"step": 1, "loss": 1.0, "learning_rate": 0.1}])
    assert trained.step == rewarded.step == 1
    assert trained.series != rewarded.series
    assert not set(trained.values) & set(rewarded.values)


def test_val_of_either_is_told_under_its_own_name() -> None:
    before, after = of_evaluation(EVALUATION), of_evaluation(EVALUATION, "rl_val")
    assert dict(before.values) == {"val/macro_f1": 0.5}
    assert (after.series, dict(after.values)) == ("rl_val", {"rl_val/macro_f1": 0.5})
