"""`run_summary.json`: the run in one file, for scripts and for tables across runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from core.evaluation.metrics import Metrics
from core.evaluation.selection import Selection


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What the file holds. Paths are as the run's folder names them; None where there is none."""

    run_dir: str
    teacher_dir: str | None
    report_path: str
    final_model_path: str | None
    best_model_path: str
    resume_state_path: str | None
    selection: Selection
    best_val: Metrics
    """The chosen checkpoint's metrics on val."""
    teacher_summary: Mapping[str, Any] | None
    sizes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """For each split its rows and positives."""
    test: Mapping[str, Metrics] = field(default_factory=dict)
    """Metrics on test of whatever was measured there, by name ("student", "label_only", ...)."""
    untrained: Mapping[str, Metrics] = field(default_factory=dict)
    """The untrained student's metrics by split."""
    baselines: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By name, how each was made and decides, and its metrics by split."""
    funnel: Mapping[str, Any] | None = None
    timings: Mapping[str, float] | None = None
    """Seconds by stage."""

    def to_json(self) -> dict[str, Any]:
        """The mapping that is written."""
        return {
            "run_dir": self.run_dir,
            "teacher_dir": self.teacher_dir,
            "report_path": self.report_path,
            "final_model_path": self.final_model_path,
            "best_model_path": self.best_model_path,
            "resume_state_path": self.resume_state_path,
            **self._chosen(),
            "teacher_summary": None if self.teacher_summary is None else dict(self.teacher_summary),
            "sizes": {split: dict(counts) for split, counts in self.sizes.items()},
            "test": {name: m.to_json() for name, m in self.test.items()},
            "untrained": {split: m.to_json() for split, m in self.untrained.items()},
            "baselines": {name: dict(b) for name, b in self.baselines.items()},
            "funnel": None if self.funnel is None else dict(self.funnel),
            "timings": None if self.timings is None else dict(self.timings),
        }

    def _chosen(self) -> dict[str, Any]:
        return {
            "best_step": self.selection.step,
            "best_val_macro_f1": self.best_val["macro_f1"],
            "selection_metric": self.selection.metric,
            "best_val_selection_score": self.selection.score,
            "best_val_selection_metric_value": self.selection.value,
            "beats_untrained": self.selection.beats_untrained,
            "selection_reason": self.selection.reason,
        }
