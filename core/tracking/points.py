"""The metrics that trackers receive, under the names that the predecessor's users have in their charts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from core.evaluation.metrics import Metrics
from core.rejection.files import TeacherSummary
from core.results import RunResult
from core.rl.history import RLStep
from core.student.segment import TrainStep

Value = float | str
LOG_LOSS = "log_loss"


@dataclass(frozen=True, slots=True)
class Point:
    """Metrics at a step of a series, which is sent once; without a step, metrics of the whole run."""

    series: str
    step: int | None
    values: Mapping[str, Value]


def training_points(rows: Iterable[TrainStep]) -> Iterator[Point]:
    """Training by step, counted from 1."""
    for row in rows:
        values = {
            "train/trainer_loss": row.loss,
            "train/lr": row.learning_rate,
            "train/grad_norm": row.grad_norm,
            "train/tokens": row.tokens,
        }
        yield Point("train", row.step + 1, _defined(values))


def reward_points(rows: Iterable[RLStep]) -> Iterator[Point]:
    """Reinforcement by step."""
    for row in rows:
        values = {
            "rl/loss": row.loss,
            "rl/reward_mean": row.reward_mean,
            "rl/reward_std": row.reward_std,
            "rl/accuracy": row.batch_acc,
            "rl/invalid_rate": row.invalid_rate,
            "rl/kl": row.kl_logprob_diff_mean,
            "rl/lr": row.learning_rate,
        }
        yield Point("rl", row.step, _defined(values))


def evaluation_point(step: int, metrics: Metrics, series: str = "val") -> Point:
    """A checkpoint on val; those of reinforcement are the series `rl_val`."""
    return Point(series, step, _defined(_metrics(series, metrics)))


def teacher_point(summary: TeacherSummary) -> Point:
    """The teacher's answers and how many were accepted."""
    values = {
        "teacher/requested_samples": summary.requested_samples,
        "teacher/accepted_samples": summary.accepted_samples,
        "teacher/acceptance_rate": summary.acceptance_rate,
    }
    return Point("teacher", None, _defined(values))


def result_point(result: RunResult) -> Point:
    """The selected checkpoint on test, and what the run cost."""
    test, student = result.student_on_test, result.ledger.student
    values: dict[str, Value | None] = {
        **({} if test is None else _metrics("bestval_test", test)),
        "selection/metric_name": result.selection_metric,
        "selection/best_val_metric": result.best_val_selection_metric_value,
        "best_step": result.best_step,
        "report": result.report_path,
        "best_model_path": result.best_model_path,
        "cost/usd": result.ledger.usd,
        "cost/seconds": round(result.ledger.total_seconds, 1),
    }
    if student is not None:
        values |= {
            "cost/trained_tokens": student.trained_tokens,
            "cost/prefilled_tokens": student.prefilled_tokens,
            "cost/sampled_tokens": student.sampled_tokens,
            "cost/requests": student.requests,
        }
    return Point("final", None, _defined(values))


def _metrics(prefix: str, metrics: Metrics) -> dict[str, Value | None]:
    """All registered metrics; `loss` and `cls_loss` are the predecessor's names of the log loss."""
    log_loss = metrics.values.get(LOG_LOSS)
    found = {
        "loss": log_loss,
        "cls_loss": log_loss,
        **metrics.values,
        "invalid_label_rate": metrics.invalid_label_rate,
        "decision_threshold": metrics.threshold,
    }
    return {f"{prefix}/{name}": value for name, value in found.items()}


def _defined(values: Mapping[str, Value | None]) -> dict[str, Value]:
    """Leave out undefined metrics: trackers cannot show the reason."""
    return {name: value for name, value in values.items() if value is not None}
