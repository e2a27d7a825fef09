"""Who is measured in a run: the student in its modes, the untrained model, the baselines, the teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core import jsonio
from core.evaluation import decision
from core.evaluation.analysis import Kind, ScorerSettings
from core.evaluation.decision import DECISION, Decision
from core.evaluation.metrics import Metrics
from core.evaluation.predictions import SCORES, Predictions
from core.records import SplitName
from core.results import ScorerResult
from core.store.manifest import Manifest
from core.store.objects import Store

BASELINES = "baselines.json"
"""The file of the baseline stage that says of each baseline how it was made."""


@dataclass(frozen=True, slots=True)
class Scorer:
    """One of them: its rows by split, and what was frozen for it on val.

    Of `decision`, `threshold` (one by definition) and `labels_only` (a teacher's answers) it has one.
    `file` names its rows in the objects of `rows`; {split} in it is replaced.
    """

    name: str
    title: str
    kind: Kind
    rows: Mapping[SplitName, Manifest]
    decision: Manifest | None = None
    threshold: float | None = None
    labels_only: bool = False
    file: str = SCORES

    def file_of(self, split: SplitName) -> str:
        """The file that holds its rows of a split."""
        return self.file.format(split=split)

    def settings(self, split: SplitName) -> ScorerSettings:
        """What the analyse stage is told of it."""
        return ScorerSettings(
            name=self.name,
            title=self.title,
            kind=self.kind,
            scored=self.name,
            file=self.file_of(split),
            decision=None if self.decision is None else self._decision,
            threshold=self.threshold,
            labels_only=self.labels_only,
        )

    def inputs(self, split: SplitName) -> dict[str, Manifest]:
        """What the analyse stage reads of it."""
        found = {self.name: self.rows[split]}
        return found if self.decision is None else {**found, self._decision: self.decision}

    @property
    def _decision(self) -> str:
        return f"{self.name} decision"


class Readings:
    """What scorers' objects hold: their rows, what was frozen for them, and what that reaches."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._metrics: dict[tuple[str, SplitName], Metrics] = {}

    def rows(self, scorer: Scorer, split: SplitName) -> Predictions:
        """A scorer's predictions of a split, before calibration."""
        return Predictions.read(self._store.file(scorer.rows[split], scorer.file_of(split)))

    def decision(self, scorer: Scorer) -> Decision:
        """What was frozen for a scorer on val."""
        if scorer.decision is not None:
            return decision.read(self._store.file(scorer.decision, DECISION))
        assert scorer.threshold is not None, f"{scorer.name} gives labels and decides nothing"
        return decision.by_definition(scorer.threshold)

    def metrics(self, scorer: Scorer, split: SplitName) -> Metrics:
        """A scorer's metrics on a split, as it decides."""
        at = scorer.name, split
        if at not in self._metrics:
            self._metrics[at] = self.decision(scorer).metrics(self.rows(scorer, split))
        return self._metrics[at]

    def summaries(self, scorers: Sequence[Scorer]) -> dict[str, ScorerResult]:
        """Return how each scorer with probabilities was built and decides, and its metrics, by name."""
        return {scorer.name: self._summary(scorer) for scorer in scorers if not scorer.labels_only}

    def _summary(self, scorer: Scorer) -> ScorerResult:
        frozen = self.decision(scorer)
        found = {
            "title": scorer.title,
            "kind": scorer.kind,
            **self._settings(scorer),
            "calibration": frozen.calibrator.kind,
            "decision_threshold": frozen.threshold,
            "decision_threshold_reason": frozen.reason,
            "metrics": {split: self.metrics(scorer, split) for split in scorer.rows},
        }
        return ScorerResult.from_json(found, scorer.name)

    def _settings(self, scorer: Scorer) -> dict[str, Any]:
        """How a classical baseline was built, from its stage's file; empty for other scorers."""
        built = next(iter(scorer.rows.values()))
        if built.stage != "baseline":
            return {}
        found: dict[str, Any] = jsonio.read_json(self._store.file(built, BASELINES))[scorer.name]
        return found
