"""The results of a run as typed records: `run_summary.json` and `rl_phase/rl_summary.json`.

Everything that reports on runs reads them. Files of 0.1, and of the scripts before this project, have no
`version` and a subset of these fields, which is why most have a default.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeVar

from pydantic import Field, field_validator

from core.cost import TrainingPrice
from core.errors import Failure
from core.evaluation.metrics import Metrics
from core.jsonio import InvalidFile, Record, Stored, parse
from core.records import SplitName
from core.rejection.funnel import Funnel, TeacherSummary
from core.store import Store
from core.store.run_view import FOLDER, SUMMARY, CodeVersion

VERSION: Literal[1] = 1
RL_SUMMARY = "rl_phase/rl_summary.json"
Setting = bool | int | float | str | None
_Result = TypeVar("_Result", bound=Record)


class SplitSize(Record):
    """Rows of a split, and how many of them are positive."""

    rows: int
    positive: int


class TeacherTotals(Record):
    """Requests, tokens and US dollars of a live teacher, summed over sample stages.

    `…_now` counts what making the stages took, `…_of_the_run` everything that their `runs` have asked.
    """

    runs: tuple[str, ...] = ()
    asked_now: int = 0
    reused: int = 0
    usd_now: float | None = None
    tokens_now: int = 0
    cached_tokens_now: int = 0
    usd_of_the_run: float | None = None
    requests_of_the_run: int = 0
    prompt_tokens_of_the_run: int = 0
    cached_tokens_of_the_run: int = 0
    completion_tokens_of_the_run: int = 0
    unmetered_of_the_run: int = 0
    retried: dict[str, int] = {}
    given_up: dict[str, int] = {}


class StudentLedger(Record):
    """Tokens, requests and US dollars of training, sampling and evaluation."""

    trained_tokens: int = 0
    prefilled_tokens: int = 0
    sampled_tokens: int = 0
    requests: int = 0
    usd: float | None = None


class Ledger(Record):
    """`ledger.json`: cost of the run, reused stages included. `seconds` is by stage."""

    usd: float | None = None
    teacher: TeacherTotals | None = None
    """None if the answers were recorded or gold labels."""
    student: StudentLedger | None = None
    """None if the ledger could not be computed."""
    seconds: dict[str, float] = {}

    @property
    def total_seconds(self) -> float:
        return sum(self.seconds.values())


class TeacherFigures(TeacherSummary):
    """`teacher_summary` of a run's result: without the funnel, which the result has itself."""

    funnel: Funnel | None = Field(None, exclude=True)  # type: ignore[assignment]

    @classmethod
    def of(cls, summary: TeacherSummary) -> TeacherFigures:
        return cls(**{name: getattr(summary, name) for name in summary.model_fields_set - {"funnel"}})


class GridPoint(Record):
    """One regularization strength, with a range of n-grams, that a baseline tried on val."""

    C: float
    ngram_range: tuple[int, int] | None = Field(None, exclude_if=lambda value: value is None)
    """None without n-grams, and then not written."""
    log_loss: float | None
    auroc: float | None


class ScorerResult(Record):
    """A baseline or another scorer: how it was built, how it decides, and its metrics by split."""

    title: str
    kind: str
    trained_on: str | None = None
    settings: dict[str, Setting | list[Setting]] | None = None
    grid: tuple[GridPoint, ...] | None = None
    settings_reason: str | None = None
    calibration: str
    decision_threshold: float | None
    decision_threshold_reason: str
    metrics: dict[SplitName, Metrics]


class AdapterParity(Stored):
    """Scores of the downloaded adapter compared with those of the server; `largest` is in nats."""

    checked: bool
    why: str | None = None
    trained_tensors: int | None = None
    base_digest: str | None = None
    rows: int | None = None
    largest: float | None = None
    row: int | None = None
    left_out: int | None = None


class AdapterDownload(Stored):
    """An adapter that was downloaded from a training server. `files` has a sha256 by name."""

    output_dir: str | None = None
    bytes: int | None = None
    files: dict[str, str] | list[str] = {}
    parity: AdapterParity | None = None
    seconds: float | None = None


class AdapterDownloads(Record):
    """Downloaded adapters; None if the checkpoint was local or not downloaded."""

    final: AdapterDownload | None = None
    best_val: AdapterDownload | None = None


class StudentSetup(Record):
    """The student's engine, base model and target, as configured."""

    engine: str | None = None
    base_model: str | None = None
    target: str | None = None


class RunResult(Record):
    """`run_summary.json`: the result of a run. Paths are relative to the root."""

    version: Literal[1] = VERSION
    run_dir: str
    teacher_dir: str | None = None
    report_path: str | None = None
    final_model_path: str | None = None
    """The adapter of the last checkpoint; None if nothing was trained."""
    best_model_path: str | None = None
    """The adapter of the selected checkpoint, or "the base model"."""
    resume_state_path: str | None = None
    best_step: int | None = None
    best_val_macro_f1: float | None = None
    selection_metric: str | None = None
    best_val_selection_score: float | None = None
    """The metric's value, negated if smaller is better."""
    best_val_selection_metric_value: float | None = None
    beats_untrained: bool | None = None
    """None if the untrained model was not evaluated."""
    selection_reason: str | None = None
    teacher_summary: TeacherFigures | None = None
    """None for the predecessor, which wrote other figures."""
    sizes: dict[SplitName, SplitSize] = {}
    test: dict[str, Metrics] = {}
    """The student's metrics on test by mode: "student", "label_only"."""
    untrained: dict[SplitName, Metrics] = {}
    """The untrained student's metrics by split."""
    baselines: dict[str, ScorerResult] = {}
    funnel: Funnel | None = None
    timings: dict[str, float] = {}
    """Seconds by stage."""
    ledger: Ledger = Field(default_factory=Ledger)
    adapter_downloads: AdapterDownloads = Field(default_factory=AdapterDownloads)
    failed_parts: tuple[Failure, ...] = ()
    """Optional parts that failed."""
    student: StudentSetup | None = None
    """None in files of 0.1."""
    made_by: CodeVersion | None = None
    """The code that wrote the file; None in files of 0.1, see `core.store.run_view`."""

    @field_validator("teacher_summary", mode="before")
    @classmethod
    def _only_ours(cls, value: object) -> object:
        return None if isinstance(value, dict) and "teacher_kind" not in value else value

    @property
    def run(self) -> str:
        return self.run_dir.rstrip("/").rpartition("/")[2]

    @property
    def student_on_test(self) -> Metrics | None:
        """The published student's metrics on test; None if test was not exported."""
        return next(iter(self.test.values()), None)


class ReinforcementStart(Record):
    """What reinforcement began with; no `run` means the base model."""

    run: str | None
    step: int
    checkpoint_digest: str | None


class SelectedStep(Record):
    """The metric that selected a checkpoint, its value on val, and the reason."""

    metric: str
    value: float | None
    reason: str


class ReinforcedVal(Record):
    """Metrics on val before reinforcement and at the selected step."""

    start: Metrics
    best: Metrics


class ReinforcementResult(Record):
    """`rl_phase/rl_summary.json`: the result of reinforcement."""

    version: Literal[1] = VERSION
    start: ReinforcementStart
    steps: int
    steps_planned: int
    best_step: int
    selection: SelectedStep
    best_model_path: str
    final_model_path: str | None
    final_state_path: str | None
    val: ReinforcedVal
    val_reward: dict[str, float | None]
    """Mean reward of greedy answers on val by step."""
    rollouts: int
    failed_rollouts: int
    groups: int
    groups_skipped: int
    steps_without_update: int
    test: dict[str, Metrics]
    compared: dict[str, Metrics]
    ledger: Ledger = Field(default_factory=Ledger)
    failed_parts: tuple[Failure, ...] = ()


def load_run_result(store: Store, run: str) -> RunResult | None:
    """Read `run_summary.json` of a run; None if the run has none.

    Raises InvalidFile, which names the file and the field, also for a version this code cannot read.
    """
    return _load(store, f"{FOLDER}/{run}/{SUMMARY}", RunResult)


def load_reinforcement_result(store: Store, run: str) -> ReinforcementResult | None:
    """Read `rl_phase/rl_summary.json` of a run; None if the run has none. Raises InvalidFile."""
    return _load(store, f"{FOLDER}/{run}/{RL_SUMMARY}", ReinforcementResult)


def _load(store: Store, path: str, kind: type[_Result]) -> _Result | None:
    found = store.backend.read(path)
    if found is None:
        return None
    try:
        return parse(kind, found.data)[0]
    except InvalidFile as e:
        raise InvalidFile(f"{store.where(path)}: {e}") from e


class EstimatedPart(Record):
    """Tokens of the calls of one kind, such as all evaluations."""

    name: str
    calls: int = 1
    trained_tokens: int = 0
    prefilled_tokens: int = 0
    sampled_tokens: int = 0


class CostEstimate(Record):
    """cost_estimate.json: the estimated cost of a student on a training server."""

    model: str = ""
    steps: int = 0
    trained_tokens: int
    prefilled_tokens: int
    sampled_tokens: int
    usd: float | None
    """None without a price."""
    prices_usd_per_million: TrainingPrice | None = None
    parts: tuple[EstimatedPart, ...] = ()
    notes: tuple[str, ...]
    """What the estimate assumes."""

    @property
    def sentence(self) -> str:
        """The whole estimate in one sentence."""
        money = "an unknown sum" if self.usd is None else f"about US$ {self.usd:.4f}"
        return (
            f"the student ({self.model}) will take {money}: {self.trained_tokens:,} tokens trained "
            f"in {self.steps:,} steps, {self.prefilled_tokens:,} prefilled, {self.sampled_tokens:,} sampled"
        )

    def lines(self) -> Iterator[str]:
        """The estimate and its parts, as text."""
        yield self.sentence
        for part in self.parts:
            counts = (part.trained_tokens, part.prefilled_tokens, part.sampled_tokens)
            named = zip(counts, ("trained", "prefilled", "sampled"), strict=True)
            listed = ", ".join(f"{n:,} {what}" for n, what in named if n)
            yield f"  {part.name}{f' ({part.calls} times)' if part.calls > 1 else ''}: {listed}"
        yield from (f"  {note}" for note in self.notes)
