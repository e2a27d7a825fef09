"""What the report and its curve are made from. Values only: whoever has a run fills them in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from core.evaluation.metrics import Metrics
from core.evaluation.selection import Selection

Kind = Literal["baseline", "untrained", "student", "label_only", "final"]
"""baseline: trained on gold labels without a language model; final: the last step, shown but never
chosen; label_only: the chosen checkpoint asked with the label-only prompt."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the table: who, and what it reached."""

    title: str
    kind: Kind
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A checkpoint on val; `train_loss` is that of the steps before it."""

    step: int
    metrics: Metrics
    train_loss: float | None = None


@dataclass(frozen=True, slots=True)
class SplitSize:
    """How many rows a split has, and how many are positive."""

    name: str
    rows: int
    positive: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """Texts that a rule took, by their gold label."""

    rule: str
    negative: int
    positive: int


@dataclass(frozen=True, slots=True)
class Funnel:
    """From train texts to accepted samples, by gold label. `missing` had no answer."""

    teacher: str
    negative: int
    positive: int
    missing: int
    accepted_negative: int
    accepted_positive: int
    rejected: Sequence[Rejected] = ()


@dataclass(frozen=True, slots=True)
class ModelBlock:
    """A model, where it is, and its metrics on the report's split where they were measured."""

    title: str
    model_path: str
    metrics: Metrics | None


@dataclass(frozen=True, slots=True)
class ReportInputs:
    """All that the report says. `split` is where the table was measured: test, unless not exported."""

    run_name: str
    generated_at: str
    base_model: str
    engine: str
    target: str
    rulebook_in_prompt: bool
    split: str
    sizes: Sequence[SplitSize]
    entries: Sequence[Entry]
    selection: Selection
    threshold_reason: str
    curve: Sequence[CurvePoint]
    models: Sequence[ModelBlock]
    resume_state_path: str | None = None
    funnel: Funnel | None = None
    notices: Sequence[str] = ()
    """Sentences: rows left out, duplicates, texts that were cut."""
    files: Mapping[str, str] = field(default_factory=dict)
    """File name to what is in it."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """By stage."""
