"""All that a report says. Values only: whoever has a run fills them in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.evaluation.metrics import Metrics
from core.evaluation.selection import Selection
from core.store.reads import Read


@dataclass(frozen=True, slots=True)
class Setup:
    """What was run, as it was configured; `calibration` and `objective` in words."""

    base_model: str
    engine: str
    target: str
    rulebook_in_prompt: bool
    seed: int
    teacher: str
    calibration: str
    objective: str
    rationales: str = "own"


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
class ModelBlock:
    """A model, where it is, and its metrics on the report's split where they were measured."""

    title: str
    model_path: str
    metrics: Metrics | None


@dataclass(frozen=True, slots=True)
class Mistake:
    """A row that was decided wrongly. `probability` is calibrated; `stated` is the label in its answer."""

    id: str
    text: str
    gold: int
    decision: int
    probability: float | None
    threshold: float
    reasoning: str | None = None
    cited: tuple[str, ...] = ()
    stated: int | None = None


@dataclass(frozen=True, slots=True)
class SeedResult:
    """The student of another seed on the same rows, at the threshold that its own val chose."""

    run: str
    seed: int
    metrics: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Reinforced:
    """What a student learnt from rewards: from whom it began, step by step, and on val."""

    start: str
    planned: int
    """Steps, unless it was stopped early."""
    history: Sequence[Mapping[str, Any]]
    """rl_history.jsonl."""
    val_rewards: Mapping[int, Mapping[str, Any]]
    """By step, what greedy answers on val earn: reward_mean, rewards by name, rows, failed_rows."""
    weights: Mapping[str, float]
    """What each reward is worth in the sum."""


@dataclass(frozen=True, slots=True)
class Compared:
    """Scorers on the same rows of `split`: test, unless it was not exported."""

    run_name: str
    generated_at: str
    split: str
    setup: Setup
    analysis: Mapping[str, Any]
    """analysis.json; its first scorer, as a rule the student, is compared with each other one."""
    decisions: Mapping[str, Mapping[str, Any]]
    """decision.json by the scorer's name; scorers without one have none here."""


@dataclass(frozen=True, slots=True)
class Report(Compared):
    """All facts of a run's report."""

    selection: Selection
    curve: Sequence[CurvePoint]
    sizes: Sequence[SplitSize]
    models: Sequence[ModelBlock]
    losses: Sequence[tuple[int, float]] = ()
    """Step and train loss."""
    val_baselines: Mapping[str, Metrics] = field(default_factory=dict)
    """Title to metrics on val: the lines that the curve has to get above."""
    teacher: Mapping[str, Any] | None = None
    """teacher_summary.json; None where nothing was asked."""
    hardness: Sequence[Mapping[str, Any]] = ()
    """hardness.json of each split whose texts the teacher answered."""
    ledger: Mapping[str, Any] = field(default_factory=dict)
    """ledger.json."""
    estimate: Mapping[str, Any] | None = None
    """cost_estimate.json; None where nothing was to be paid to a training server."""
    notices: Sequence[str] = ()
    """Sentences: rows left out, duplicates, texts that were cut."""
    resume_state_path: str | None = None
    mistakes: Sequence[Mistake] = ()
    """The surest first; see core.report.mistakes."""
    reads: Sequence[Read] = ()
    """Of this very test split, as core.store.reads finds them: this run's own included."""
    seeds: Sequence[SeedResult] = ()
    """Other seeds of this run; empty where there is one."""
    provenance: Sequence[tuple[str, str]] = ()
    """Name and value: versions, commit, digests."""
    files: Mapping[str, str] = field(default_factory=dict)
    """File name to what is in it."""
    reinforced: Reinforced | None = None
    """Where the student learnt from rewards; step 0 of the curve is then what it began with."""
    untested: Sequence[str] = ()
    """Sentences besides those that follow from the facts above."""
