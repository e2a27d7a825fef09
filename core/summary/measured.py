"""`metrics_{split}.json` and `metrics_{split}_label_only.json`, this project's or its predecessor's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from core.export.manifests import metrics_name
from core.records import SplitName
from core.summary.checking import Unusable, count, mapping, number, required, text
from core.summary.intervals import Interval, Mode, intervals

Modes = Literal["reasoning", "label_only", "both"]
MODES: tuple[Mode, ...] = ("reasoning", "label_only")
FILES: Mapping[Mode, str] = {
    "reasoning": "metrics_{train,val,test}.json",
    "label_only": "metrics_{train,val,test}_label_only.json",
}
"""How their names are written where there are none."""
METRICS = (
    "loss",
    "cls_loss",
    "accuracy",
    "macro_f1",
    "auroc",
    "auprc",
    "invalid_label_rate",
    "balanced_accuracy",
    "F1",
    "mcc",
    "precision",
    "recall",
)
COUNTS = ("tp", "fp", "fn", "tn")
"""These and the above both write, in the order of the predecessor's tables."""
MORE = ("log_loss", "brier", "outside_mass")
MORE_COUNTS = ("n_positive",)
"""What only this project writes."""
OPTIONAL = ("dataset_fingerprint", "config_fingerprint")


@dataclass(frozen=True, slots=True)
class Measured:
    """A run's metrics on one split in one mode. None is undefined, or not written."""

    run: str
    split: SplitName
    mode: Mode
    created_at: str | None
    checkpoint_path: str | None
    decision_threshold: float | None
    n: int | None
    metrics: Mapping[str, float | None]
    dataset_fingerprint: str | None
    config_fingerprint: str | None
    intervals: Mapping[str, Interval]
    """By metric, where the file has them."""


def place(split: SplitName, mode: Mode) -> str:
    """Where a run has the file."""
    return f"student_phase/{metrics_name(split, label_only=mode == 'label_only')}"


def stand_in(split: SplitName) -> str:
    """Where the predecessor's later version has the best checkpoint's metrics, from the end of its training,
    whether or not inference was run afterwards."""
    return f"student_phase/metrics_{split}_bestval.json"


def measured(run: str, split: SplitName, mode: Mode, value: Any) -> Measured:
    """The file's content as a row. Raises Unusable where it is not what its name says."""
    content = mapping(value, "it")
    said = content.get("split", split)
    if said not in (split, f"{split}_bestval"):
        raise Unusable(f"it is of split {said!r}")
    return Measured(
        run=run,
        split=split,
        mode=mode,
        created_at=text(required(content, "created_at"), "created_at"),
        checkpoint_path=text(required(content, "checkpoint_path"), "checkpoint_path"),
        decision_threshold=number(required(content, "decision_threshold"), "decision_threshold"),
        n=count(required(content, "n"), "n"),
        metrics=_metrics(mapping(required(content, "metrics"), "metrics")),
        **{name: text(content.get(name), name) for name in OPTIONAL},
        intervals=intervals(content.get("intervals")),
    )


def _metrics(found: Mapping[str, Any]) -> dict[str, float | None]:
    if missing := [name for name in (*METRICS, *COUNTS) if name not in found]:
        raise Unusable(f"metrics has no {', '.join(missing)}")
    return {
        **{name: number(found.get(name), f"metrics.{name}") for name in (*METRICS, *MORE)},
        **{name: count(found.get(name), f"metrics.{name}") for name in (*COUNTS, *MORE_COUNTS)},
    }
