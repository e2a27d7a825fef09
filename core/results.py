"""The results of a run as typed records: `run_summary.json` and `rl_phase/rl_summary.json`.

A run writes a `RunResult` (or a `ReinforcementResult`) last; everything that reports on runs reads it. The
field names are those of the files. Version 0.1 wrote no `version`; its fields are a subset of version 1, and
so are those of the scripts before this project, which is why most fields have a default.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from core.evaluation.metrics import Metrics
from core.jsonrecords import InvalidFile, Record, parse
from core.optional import Failure
from core.provenance import CodeVersion
from core.records import SplitName
from core.rejection.funnel import Funnel
from core.rejection.hard import Hardness
from core.rejection.skew import Skew
from core.store.objects import Store
from core.store.runs import FOLDER, SUMMARY

VERSION = 1
RL_SUMMARY = "rl_phase/rl_summary.json"
Setting = bool | int | float | str | None


class SplitSize(Record):
    """Rows of a split, and how many of them are positive."""

    rows: int
    positive: int


class FirstAnswers(Record):
    """Confusion of the first answers with gold; `unread` named no label."""

    tp: int
    fn: int
    fp: int
    tn: int
    unread: int


class AnswerAgreement(Record):
    """Agreement of several answers to one text; see `core.teacher.tally.Agreement`."""

    texts_with_several_answers: int
    unanimous: int
    tied: int
    majority_right: int
    majority_wrong: int
    observed_agreement: float | None
    only_texts_whose_first_answer_failed: bool


class RecordedLabels(Record):
    """Labels parsed from recorded outputs, compared with the recorded labels."""

    both: int
    agree: int
    differ: int
    unread: int
    unrecorded: int
    neither: int


class TeacherLedger(Record):
    """Requests, tokens and US dollars of a live teacher. Of one sample stage, or the sum of several.

    `…_now` counts what making the stage took, `…_of_the_run` everything its run has asked so far.
    """

    run: str | None = None
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
    teacher: TeacherLedger | None = None
    """None if the answers were recorded or gold labels."""
    student: StudentLedger = Field(default_factory=StudentLedger)
    seconds: dict[str, float] = {}

    @property
    def total_seconds(self) -> float:
        """Seconds of all stages."""
        return sum(self.seconds.values())


class TeacherSummary(Record):
    """`teacher_phase/teacher_summary.json`: the teacher's answers and how many rejection accepted.

    `…_samples` counts answers, `…examples` texts. `funnel` is None inside a `RunResult`, which has it itself.
    """

    teacher_model: str | None = None
    teacher_kind: str | None = None
    requested_samples: int = 0
    accepted_samples: int = 0
    rejected_samples: int = 0
    acceptance_rate: float | None = None
    examples: int = 0
    accepted_examples: int = 0
    example_acceptance_rate: float | None = None
    missing: int = 0
    unknown_ids: int = 0
    models: dict[str, int] = {}
    parse_sources: dict[str, int] = {}
    parse_errors: dict[str, int] = {}
    finish_reasons: dict[str, int] = {}
    first_answers: FirstAnswers | None = None
    agreement: AnswerAgreement | None = None
    recorded_labels: RecordedLabels | None = None
    output_format: str | None = None
    ledger: TeacherLedger | None = None
    funnel: Funnel | None = None
    hard: Hardness | None = None
    skew: Skew | None = None
    unusable: str | None = None
    notices: tuple[str, ...] = ()


class GridPoint(Record):
    """One regularization strength that a baseline tried on val."""

    C: float
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


class AdapterParity(Record):
    """Scores of the downloaded adapter compared with those of the server; `largest` is in nats."""

    checked: bool
    why: str | None = None
    trained_tensors: int | None = None
    base_digest: str | None = None
    rows: int | None = None
    largest: float | None = None
    row: int | None = None
    left_out: int | None = None


class AdapterDownload(Record):
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
    teacher_summary: TeacherSummary | None = None
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
    """The code that wrote the file; None in files of 0.1, see `core.provenance`."""

    @property
    def run(self) -> str:
        """The run's name."""
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
    path = f"{FOLDER}/{run}/{SUMMARY}"
    found = store.backend.read(path)
    if found is None:
        return None
    try:
        return parse(RunResult, found.data)[0]
    except InvalidFile as e:
        raise InvalidFile(f"{store.where(path)}: {e}") from e
