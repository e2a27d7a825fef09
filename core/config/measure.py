"""`evaluation:` and `export:`: how checkpoints are measured, which is chosen, and what is written."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from core.config.base import NotInKey, Section

Metric = Literal[
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "f1",
    "mcc",
    "precision",
    "recall",
    "auroc",
    "auprc",
    "log_loss",
    "brier",
]


class EarlyStopping(Section):
    """Stop when the metric has not got better for a while."""

    patience: int = Field(3, ge=1)
    """Evaluations without improvement before training stops."""
    min_delta: float = Field(0.0, ge=0)
    """Smallest change that counts as better."""


class EvaluationConfig(Section):
    """Each checkpoint is measured on val, the untrained model included."""

    interval: int = Field(10, ge=1)
    """Optimiser steps between evaluations; the last step is always evaluated."""
    metric: Metric = "macro_f1"
    """What the checkpoint is chosen by; log_loss and brier are better when smaller."""
    max_examples: int = Field(0, ge=0)
    """Rows of val that are scored at each checkpoint, stratified; 0 scores all."""
    early_stopping: EarlyStopping | None = None
    """Optional early stopping."""
    invalid_warn_rate: Annotated[float, NotInKey("a warning only")] = Field(0.10, ge=0, le=1)
    """Warn where more than this share of rows has no valid label."""
    max_new_tokens: int = Field(512, ge=1)
    """reason_first: longest reasoning generated before the label is scored, in tokens."""


class ExportConfig(Section):
    """Predictions and metrics of the chosen checkpoint."""

    splits: tuple[Literal["train", "val", "test"], ...] = ("train", "val", "test")
    """Which splits are exported; val is always measured, since the threshold comes from it."""
    reasoning: bool = True
    """Measure with the prompt and target the student was trained on."""
    label_only: bool = True
    """Measure with the label-only prompt too, with a threshold of its own."""
    reasoning_rows: int = Field(50, ge=0)
    """Rows of each split for which the reasoning is generated; for reason_first all are."""
    max_new_tokens: int = Field(256, ge=1)
    """Longest generated reasoning, in tokens."""

    @model_validator(mode="after")
    def _something_to_export(self) -> ExportConfig:
        if not (self.reasoning or self.label_only):
            raise ValueError("reasoning and label_only are both off: nothing would be exported")
        return self
