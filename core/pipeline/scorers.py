"""What is measured in a run: the student in its modes, the untrained model, baselines, the teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from core import jsonio
from core.evaluation.analysis import Kind, ScorerSettings
from core.evaluation.decision import DECISION, Decision
from core.evaluation.metrics import Metrics
from core.evaluation.predictions import SCORES, Predictions
from core.jsonio import Record
from core.records import SplitName
from core.results import GridPoint, ScorerResult, Setting
from core.store import Manifest, Store

BASELINES = "baselines.json"
"""The file of the baseline stage that describes how each baseline was fitted."""


@dataclass(frozen=True, slots=True)
class Scorer:
    """Something that scores rows: its scores by split, and its decision, which was frozen on val.

    It has one of `decision`, `threshold` (fixed by definition) and `labels_only` (a teacher's answers).
    `file` is the name of its rows in the objects of `rows`, in which {split} is replaced.
    """

    name: str
    title: str
    kind: Kind
    rows: Mapping[SplitName, Manifest]
    decision: Manifest | None = None
    threshold: float | None = None
    labels_only: bool = False
    file: str = SCORES

    def settings(self, split: SplitName) -> ScorerSettings:
        return ScorerSettings(
            name=self.name,
            title=self.title,
            kind=self.kind,
            scored=self.name,
            file=self.file.format(split=split),
            decision=None if self.decision is None else f"{self.name} decision",
            threshold=self.threshold,
            labels_only=self.labels_only,
        )

    def inputs(self, split: SplitName) -> dict[str, Manifest]:
        found = {self.name: self.rows[split]}
        return found if self.decision is None else {**found, f"{self.name} decision": self.decision}

    @property
    def frozen(self) -> Manifest:
        """The decision of a student, which always has one."""
        assert self.decision is not None, f"{self.name} has no decision of its own"
        return self.decision


class FittedBaseline(Record):
    """How a classical baseline was fitted, as baselines.json describes it."""

    title: str
    impossible: str | None = None
    """Why it cannot be fitted to these rows."""
    trained_on: str | None = None
    settings: dict[str, Setting | list[Setting]] | None = None
    grid: tuple[GridPoint, ...] | None = None
    settings_reason: str | None = None


def read_baselines(path: Path) -> dict[str, FittedBaseline]:
    """The classical baselines of a BASELINES file, by name."""
    return {
        name: FittedBaseline.from_json(about, f"{path}: {name}")
        for name, about in jsonio.read_json(path).items()
    }


class ScorerReader:
    """Reads the objects of scorers: rows, decision and metrics."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._metrics: dict[tuple[str, SplitName], Metrics] = {}

    def rows(self, scorer: Scorer, split: SplitName) -> Predictions:
        """A scorer's predictions of a split, before calibration."""
        return Predictions.read(self._store.file(scorer.rows[split], scorer.file.format(split=split)))

    def decision(self, scorer: Scorer) -> Decision:
        """The calibration and threshold that were frozen for a scorer on val."""
        if scorer.decision is not None:
            return Decision.read(self._store.file(scorer.decision, DECISION))
        assert scorer.threshold is not None, f"{scorer.name} gives labels and decides nothing"
        return Decision.by_definition(scorer.threshold)

    def metrics(self, scorer: Scorer, split: SplitName) -> Metrics:
        """A scorer's metrics on a split at its decision."""
        at = scorer.name, split
        if at not in self._metrics:
            self._metrics[at] = self.decision(scorer).metrics(self.rows(scorer, split))
        return self._metrics[at]

    def results(self, scorers: Sequence[Scorer]) -> dict[str, ScorerResult]:
        """How each scorer with probabilities was fitted and decides, and its metrics, by name."""
        found: dict[str, ScorerResult] = {}
        for scorer in scorers:
            if scorer.labels_only:
                continue
            frozen, scored = self.decision(scorer), next(iter(scorer.rows.values()))
            fitted = FittedBaseline(title=scorer.title)
            if scored.stage == "baseline":
                fitted = read_baselines(self._store.file(scored, BASELINES))[scorer.name]
            found[scorer.name] = ScorerResult(
                title=scorer.title,
                kind=scorer.kind,
                **fitted.model_dump(include={"trained_on", "settings", "grid", "settings_reason"}),
                calibration=frozen.calibrator.kind,
                decision_threshold=frozen.threshold,
                decision_threshold_reason=frozen.reason,
                metrics={split: self.metrics(scorer, split) for split in scorer.rows},
            )
        return found
