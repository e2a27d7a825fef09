"""Selection and early stopping: by step, strictly, and honest about the untrained model."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.config import METRICS, EarlyStopping
from core.errors import StageError
from core.evaluation.decision import select, should_stop
from core.evaluation.metrics import Metrics, compute
from tests.core.evaluation.scored import Row, predictions


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
def test_the_earliest_of_the_best_wins_whatever_order_they_arrive_in(
    right: list[int], random: object
) -> None:
    made = [(10 * i, at(right=r)) for i, r in enumerate(right)]
    random.shuffle(made)  # type: ignore[attr-defined]
    chosen = select(dict(made), "accuracy")
    assert chosen.step == 10 * right.index(max(right))
    assert chosen.value == pytest.approx(max(right) / 10)
    assert chosen.beats_untrained is (max(right) > right[0])


def test_for_log_loss_the_smallest_wins_and_the_score_turns_its_sign() -> None:
    chosen = select({0: at(right=5), 10: at(right=9), 20: at(right=7)}, "log_loss")
    assert chosen.step == 10
    assert chosen.value is not None
    assert chosen.score == -chosen.value


def test_a_student_that_does_not_beat_the_untrained_model_is_said_so() -> None:
    chosen = select({0: at(right=9), 10: at(right=9), 20: at(right=8)}, "accuracy")
    assert chosen.step == 0
    assert chosen.beats_untrained is False
    assert chosen.reason == (
        "No trained checkpoint beats the untrained model on val: its accuracy of 0.900 is the best "
        "of 3 evaluations, so training taught nothing that val shows."
    )


def test_a_better_student_is_named_beside_the_untrained_model() -> None:
    chosen = select({0: at(right=5), 10: at(right=9)}, "accuracy")
    assert chosen.reason == (
        "Step 10 has the best accuracy on val, 0.900, of 2 evaluations; the untrained model has 0.500."
    )


@pytest.mark.parametrize("metric", tuple(METRICS))
def test_the_reason_calls_every_metric_as_the_tables_do(metric: str) -> None:
    for made in ({0: at(right=5), 10: at(right=9)}, {0: at(right=9)}):
        assert f" {METRICS.get(metric).title} " in select(made, metric).reason


def test_an_undefined_value_never_wins_and_is_beaten_by_any() -> None:
    one_class = predictions([Row("r", 0, 0.2)])
    untrained = compute(one_class, 0.5)
    chosen = select({0: untrained, 10: at(right=1)}, "auroc")
    assert (chosen.step, chosen.beats_untrained) == (10, True)
    assert "the untrained model has undefined" in chosen.reason
    undefined = select({0: untrained}, "auroc")
    assert undefined.value is None
    assert undefined.reason == "On val AUROC is undefined at all 1 evaluations; step 0 is the earliest."


def test_without_step_zero_nothing_is_claimed_of_the_untrained_model() -> None:
    chosen = select({10: at(right=5), 20: at(right=9)}, "accuracy")
    assert chosen.beats_untrained is None
    assert chosen.reason.endswith("the untrained model was not evaluated.")


def test_no_evaluation_is_refused() -> None:
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
        ([0.5, 0.53, 0.56], "accuracy", 0.05, False),  # small steps add up against the best that counted
        ([0.5, 0.4, 0.3], "log_loss", 0.0, False),
        ([0.5, 0.6, 0.7], "log_loss", 0.0, True),
        ([None, None, None], "accuracy", 0.0, True),
        ([None, 0.1, None], "accuracy", 0.0, False),
    ],
)
def test_two_evaluations_without_improvement_stop(
    values: list[float | None], metric: str, min_delta: float, stops: bool
) -> None:
    assert should_stop(values, EarlyStopping(patience=2, min_delta=min_delta), metric) is stops


def test_without_early_stopping_nothing_stops() -> None:
    assert not should_stop([0.9, 0.1, 0.1, 0.1, 0.1], None, "accuracy")
