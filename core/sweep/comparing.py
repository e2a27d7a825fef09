"""The finished arms of a sweep on the same rows: a recommendation by val, and test for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.config import METRICS
from core.errors import DataError, MissingInputError, StoreError
from core.evaluation.analysis import Analysis, Scored, measure_scorers
from core.evaluation.decision import DECISION, Decision
from core.evaluation.metrics import lower_is_better
from core.evaluation.predictions import SCORES, Predictions
from core.records import SplitName, read_examples
from core.results import RunResult, load_run_result
from core.store import Manifest, RunView, Store
from core.store.run_view import FOLDER, split_digest
from core.sweep.arms import Arm, Sweep

FALLBACK = "macro_f1"
"""The metric of recommendation if the sweep's own has no intervals."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How an arm's run ended; `error`, None if it finished, is also why an arm cannot be compared."""

    arm: Arm
    error: str | None = None


@dataclass(frozen=True, slots=True)
class FinishedArm:
    """A finished arm: its result, its split, and of the first mode it exported the rows and the decision."""

    arm: Arm
    result: RunResult
    split: Manifest
    rows: Mapping[SplitName, Manifest]
    decision: Manifest
    made: int
    """Stages that were made for this arm; the others were reused."""
    stages: int

    @property
    def name(self) -> str:
        """The arm's name."""
        return self.arm.name

    @property
    def data(self) -> tuple[str, str]:
        """Digests of val and test."""
        return split_digest(self.split, "val"), split_digest(self.split)


@dataclass(frozen=True, slots=True)
class SweepResult:
    """The arms of a sweep that finished and share their rows, the others with the reason, and the comparison.

    `val` has the recommended arm first, `test` the arms in the sweep's order.
    """

    sweep: Sweep
    finished: Sequence[FinishedArm]
    left_out: Sequence[Ended]
    metric: str
    recommended: FinishedArm | None = None
    """None if no arm has a value on val."""
    val: Analysis | None = None
    """None if no arm finished."""
    test: Analysis | None = None
    """None if an arm has no rows of it."""


def compare_arms(store: Store, sweep: Sweep, ended: Sequence[Ended]) -> SweepResult:
    """Compare the arms that finished. Controls are compared, and never recommended."""
    arms, left_out = list[FinishedArm](), list[Ended]()
    metric = sweep.metric if sweep.metric in METRICS else FALLBACK
    for each in ended:
        if each.error is not None:
            left_out.append(each)
            continue
        try:
            arm = _read(store, each.arm)
            if arms and arm.data != arms[0].data:
                raise DataError(f"its val or test differs from that of {arms[0].name}, so they share no rows")
            arms.append(arm)
        except (MissingInputError, StoreError, DataError) as e:
            left_out.append(Ended(each.arm, str(e)))
    if not arms:
        return SweepResult(sweep, arms, left_out, metric)
    val, best = _analyze(store, arms, "val"), None
    values = [(val.scorers[arm.name].intervals[metric].value, arm) for arm in arms if not arm.arm.is_control]
    if known := [(value, arm) for value, arm in values if value is not None]:
        pick = min if lower_is_better(metric) else max
        best = pick(known, key=lambda each: each[0])[1]  # the first of equals
    if best is not None and best is not arms[0]:
        # Once more with the best first, which is compared with each other arm.
        val = _analyze(store, [best, *(arm for arm in arms if arm is not best)], "val")
    test = _analyze(store, arms, "test") if all("test" in arm.rows for arm in arms) else None
    return SweepResult(sweep, arms, left_out, metric, best, val, test)


def _read(store: Store, arm: Arm) -> FinishedArm:
    view = RunView(store, arm.run)
    stages = view.stages()
    mode = next((m for m in ("reasoning", "label_only") if f"decide/student/{m}" in stages), None)
    if mode is None:
        raise MissingInputError(
            f"run {arm.run} exported nothing (stages.export), so there is nothing to compare"
        )
    splits: tuple[SplitName, ...] = ("val", "test")
    exported = {split: f"export/student/{split}/{mode}" for split in splits}
    return FinishedArm(
        arm=arm,
        result=load_run_result(store, arm.run) or RunResult(run_dir=f"{FOLDER}/{arm.run}"),
        split=view.earlier("split", file="data_splits/test.csv"),
        rows={
            split: view.earlier(slot, file=f"student_phase/{split}.json")
            for split, slot in exported.items()
            if slot in stages
        },
        decision=view.earlier(f"decide/student/{mode}", file="student_phase/decision.json"),
        made=sum(not stage.reused for stage in stages.values()),
        stages=len(stages),
    )


def _analyze(store: Store, arms: Sequence[FinishedArm], split: SplitName) -> Analysis:
    scored = []
    for arm in arms:
        rows = Predictions.read(store.file(arm.rows[split], SCORES))
        frozen = Decision.read(store.file(arm.decision, DECISION))
        scored.append(Scored(arm.name, arm.name, rows, frozen, kind="student"))
    examples = read_examples(store.file(arms[0].split, f"{split}.csv"))
    return measure_scorers(split, examples, scored, seed=arms[0].arm.resolved.config.seed)
