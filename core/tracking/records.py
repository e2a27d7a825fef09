"""What a tracker is told, under the metric names that the predecessor's users have in their charts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

TEACHER = ("requested_samples", "accepted_samples", "acceptance_rate")
VAL = (
    "loss",
    "cls_loss",
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "F1",
    "precision",
    "recall",
    "mcc",
    "auroc",
    "auprc",
    "log_loss",
    "brier",
    "invalid_label_rate",
    "decision_threshold",
)
REWARDED = {
    "loss": "loss",
    "reward_mean": "reward_mean",
    "reward_std": "reward_std",
    "batch_acc": "accuracy",
    "invalid_rate": "invalid_rate",
    "kl_logprob_diff_mean": "kl",
    "learning_rate": "lr",
}
"""Columns of rl_history.jsonl, and what they are called."""
_CALLED = {"F1": "f1"}


@dataclass(frozen=True, slots=True)
class Point:
    """Metrics at a step; of a `series`, no step is told twice. Without a step they are of the whole run."""

    series: str
    step: int | None
    values: Mapping[str, float | str]


def of_training(rows: Iterable[Mapping[str, Any]]) -> Iterator[Point]:
    """From rows of train_history.jsonl, whose steps count from 0."""
    for row in rows:
        values = {
            "train/trainer_loss": row["loss"],
            "train/lr": row["learning_rate"],
            "train/grad_norm": row.get("grad_norm"),
            "train/tokens": row.get("tokens"),
        }
        yield Point("train", int(row["step"]) + 1, known(values))


def of_rewards(rows: Iterable[Mapping[str, Any]]) -> Iterator[Point]:
    """From rows of rl_history.jsonl."""
    for row in rows:
        values = {f"rl/{called}": row.get(name) for name, called in REWARDED.items()}
        yield Point("rl", int(row["step"]), known(values))


def of_evaluation(row: Mapping[str, Any], series: str = "val") -> Point:
    """From a row of eval_history.jsonl; those of reinforcement are a series of their own, `rl_val`."""
    return Point(series, int(row["step"]), known(_under(series, row["metrics"], VAL)))


def of_teacher(summary: Mapping[str, Any]) -> Point:
    """From teacher_summary.json."""
    return Point("teacher", None, known({f"teacher/{name}": summary.get(name) for name in TEACHER}))


def of_summary(summary: Mapping[str, Any]) -> Point:
    """From run_summary.json: the chosen checkpoint on test, and what the run took."""
    test: Mapping[str, Any] = next(iter((summary.get("test") or {}).values()), {})
    ledger = summary.get("ledger") or {}
    student = ledger.get("student") or {}
    return Point(
        "final",
        None,
        known(
            {
                **_under("bestval_test", test, VAL),
                "selection/metric_name": summary.get("selection_metric"),
                "selection/best_val_metric": summary.get("best_val_selection_metric_value"),
                "best_step": summary.get("best_step"),
                "report": summary.get("report_path"),
                "best_model_path": summary.get("best_model_path"),
                "cost/usd": ledger.get("usd"),
                **{f"cost/{name}": value for name, value in student.items() if name != "usd"},
                "cost/seconds": round(sum((ledger.get("seconds") or {}).values()), 1),
            }
        ),
    )


def known(values: Mapping[str, Any]) -> dict[str, float | str]:
    """Without what is undefined: trackers have no place for its reason."""
    return {name: value for name, value in values.items() if value is not None}


def _under(prefix: str, metrics: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {f"{prefix}/{_CALLED.get(name, name)}": metrics.get(name) for name in names}
