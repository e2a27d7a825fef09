"""Who is measured in a run: the student in its modes, the untrained model, the baselines, the teacher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from core.evaluation.analyse_stage import ScorerSlice
from core.evaluation.analysis import Kind
from core.evaluation.stage import SCORES
from core.records import SplitName
from core.store.manifest import Manifest


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

    def slice(self, split: SplitName) -> ScorerSlice:
        """What the analyse stage is told of it."""
        return ScorerSlice(
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
