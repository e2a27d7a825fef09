"""What the finished arms left: who was measured on which rows, with what was frozen before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.data.writing import read_examples
from core.errors import MissingInputError, StoreError
from core.evaluation import decision
from core.evaluation.analysis import Scored
from core.evaluation.decide_stage import DECISION
from core.evaluation.predictions import Predictions
from core.evaluation.stage import SCORES
from core.records import Example, SplitName
from core.store import reads
from core.store.manifest import Manifest
from core.store.objects import Store
from core.store.runs import SUMMARY, RunView
from core.sweep.arms import Arm, Sweep


@dataclass(frozen=True, slots=True)
class Ended:
    """How an arm ended: `error` is None where its run got to its end."""

    arm: Arm
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """An arm's objects: its split, and for the first mode that it exported the rows and the decision."""

    arm: Arm
    split: Manifest
    rows: Mapping[SplitName, Manifest]
    decision: Manifest
    best_step: int
    ledger: Mapping[str, Any]
    made: int
    """Stages that were made for this arm; all others were there already."""
    stages: int

    def scored(self, store: Store, name: SplitName) -> Scored:
        """Its rows of a split, as the analysis takes them."""
        rows = Predictions.read(store.file(self.rows[name], SCORES))
        frozen = decision.read(store.file(self.decision, DECISION))
        return Scored(self.arm.name, self.arm.name, rows, frozen, kind="student")

    def examples(self, store: Store, name: SplitName) -> list[Example]:
        """The texts of a split."""
        return list(read_examples(store.file(self.split, f"{name}.csv")))

    def data(self) -> tuple[str, str]:
        """What tells its val and test from another arm's."""
        return self.split.files["val.csv"].sha256, reads.digest(self.split)


@dataclass(frozen=True, slots=True)
class Left:
    """An arm that is not compared, and why."""

    arm: Arm
    why: str


def collect(store: Store, ended: Sequence[Ended]) -> tuple[list[Finished], list[Left]]:
    """The arms that can be compared with one another, and those that cannot."""
    found: list[Finished] = []
    left: list[Left] = []
    for each in ended:
        if each.error is not None:
            left.append(Left(each.arm, each.error))
            continue
        try:
            arm = _finished(store, each.arm)
        except (MissingInputError, StoreError) as e:
            left.append(Left(each.arm, str(e)))
            continue
        if found and arm.data() != found[0].data():
            why = f"its val or test differs from that of {found[0].arm.name}, so they share no rows"
            left.append(Left(each.arm, why))
        else:
            found.append(arm)
    return found, left


def as_recorded(store: Store, sweep: Sweep) -> list[Ended]:
    """How the arms stand by what their runs say of themselves, without carrying any out."""
    out = []
    for arm in sweep.arms:
        state = RunView(store, arm.run).state()
        error = (
            None if state.get("state") == "finished" else state.get("error") or "it was not run to its end"
        )
        out.append(Ended(arm, error))
    return out


def _finished(store: Store, arm: Arm) -> Finished:
    view = RunView(store, arm.run)
    stages = view.stages()
    mode = next((m for m in ("reasoning", "label_only") if f"decide/student/{m}" in stages), None)
    if mode is None:
        raise MissingInputError(
            f"run {arm.run} exported nothing (stages.export), so there is nothing to compare"
        )
    names: tuple[SplitName, ...] = ("val", "test")
    of: dict[SplitName, Manifest] = {
        name: view.earlier(f"export/student/{name}/{mode}", file=f"student_phase/{name}.json")
        for name in names
        if f"export/student/{name}/{mode}" in stages
    }
    summary = store.read_json(f"runs/{view.name}/{SUMMARY}") or {}
    return Finished(
        arm=arm,
        split=view.earlier("split", file="data_splits/test.csv"),
        rows=of,
        decision=view.earlier(f"decide/student/{mode}", file="student_phase/decision.json"),
        best_step=int(summary.get("best_step", 0)),
        ledger=summary.get("ledger") or {},
        made=sum(not entry.get("reused") for entry in stages.values()),
        stages=len(stages),
    )
