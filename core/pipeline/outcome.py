"""What a finished run is reported from: the manifests of its stages."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core import jsonio
from core.config import Config
from core.cost import load_prices
from core.evaluation.analyse_stage import ANALYSIS
from core.evaluation.baseline_stage import NAME as BASELINE
from core.evaluation.decide_stage import DECISION
from core.evaluation.selection import EvaluatedCheckpoint, Selection
from core.evaluation.stage import EXPORT
from core.export.ledger import student_ledger, teacher_ledger, to_json
from core.optional import Failures
from core.pipeline.phases import RL, STUDENT, Phase
from core.pipeline.scorers import Readings, Scorer
from core.pipeline.starting import Start
from core.pipeline.workbench import Workbench
from core.records import SplitName
from core.store.manifest import Manifest
from core.store.objects import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reinforcement:
    """What is known of learning from rewards: the start, its steps, and rewards on val by step."""

    start: Start
    planned: int
    rewards: Mapping[int, Manifest]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The manifests of a finished run."""

    store: Store
    run: str
    config: Config
    bench: Workbench
    parts: Manifest
    kept: Manifest | None
    encoded: Manifest | None
    """These two are None where the student learnt from rewards alone."""
    checkpoints: Mapping[int, Manifest]
    curve: Sequence[EvaluatedCheckpoint]
    selection: Selection
    modes: Sequence[Scorer]
    """The chosen checkpoint as it is asked; the first is the one that is published."""
    others: Sequence[Scorer]
    """Whom it is compared with."""
    split: SplitName
    """Where the table is measured: test, unless it was not exported."""
    analysis: Manifest
    explained: Manifest | None
    """What the student says of its worst errors."""
    evaluations: Mapping[int, Manifest] = field(default_factory=dict)
    home: Manifest | None = None
    """The chosen adapter as it was taken home from a server."""
    bundle: Manifest | None = None
    """All that a deployment needs; None where another checkpoint than the chosen one is measured."""
    reinforcement: Reinforcement | None = None
    """Where the student learnt from rewards: checkpoint 0 is then what it began with."""
    hard: Mapping[SplitName, Manifest] = field(default_factory=dict)
    """The hardness stage's objects by split."""
    failures: Failures = field(default_factory=Failures)
    """Optional parts that failed; writing the report adds its own."""
    readings: Readings = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "readings", Readings(self.store))

    @property
    def phase(self) -> Phase:
        """Where it stands in the run's folder."""
        return STUDENT if self.reinforcement is None else RL

    @property
    def trained(self) -> list[Manifest]:
        """The segments that were trained, in their order."""
        return [manifest for step, manifest in sorted(self.checkpoints.items()) if step > 0]

    @property
    def teaching(self) -> dict[str, Any] | None:
        """teacher_summary.json of what the student learnt from."""
        return None if self.kept is None else self.json(self.kept, "teacher_summary.json")

    @property
    def checkpoint(self) -> Manifest | None:
        """The chosen checkpoint; None where the untrained model was chosen."""
        return self.checkpoints.get(self.selection.step)

    @property
    def final(self) -> Manifest | None:
        """The last checkpoint."""
        return self.checkpoints[max(self.checkpoints)] if self.checkpoints else None

    def intervals(self, scorer: Scorer, split: SplitName) -> dict[str, Any]:
        """A scorer's intervals by metric, where they were made: on val, and where all were compared.

        None are of rows that a server failed on for another scorer only, which nobody was compared on.
        """
        found: dict[str, Any] = {}
        if split == self.split:
            analysis = self.json(self.analysis, ANALYSIS)
            measured = analysis["scorers"]
            if self.readings.metrics(scorer, split).rows == analysis["rows"]:
                # A mode that asks the same as the first has its scores, and is not analysed again.
                found = measured.get(scorer.name, measured[self.modes[0].name])["intervals"]
        elif split == "val" and scorer.decision is not None:
            found = self.json(scorer.decision, DECISION)["intervals"]
        return found

    def json(self, manifest: Manifest, name: str) -> dict[str, Any]:
        """One JSON file of an object."""
        found: dict[str, Any] = jsonio.read_json(self.store.file(manifest, name))
        return found


def ledger(o: Outcome) -> dict[str, Any]:
    """What the run took, in tokens, money and seconds."""
    student = o.config.student
    price = None
    if student.engine != "local" and student.prices is not None:
        price = load_prices(Path(student.prices)).students.get(student.model)
        if price is None:
            log.warning(
                "%s has no price of %s under students: tokens are counted", student.prices, student.model
            )
    asked = [s for s in (*o.modes, *o.others) if s.kind in ("student", "label_only", "untrained")]
    explained = [o.explained] if o.explained else []
    measured = [*o.evaluations.values(), *(m for s in asked for m in s.rows.values()), *explained]
    if o.reinforcement is not None:  # its segments sample, too
        measured += [*o.trained, *o.reinforcement.rewards.values()]
    unique = {m.path: m for m in measured}
    found = student_ledger(o.trained, unique.values(), price)
    return to_json(teacher_ledger(_asked(o)), found, seconds(o))


def _asked(o: Outcome) -> list[dict[str, Any]]:
    """The ledgers of the sample stages, of train and of the splits that the teacher is measured on."""
    labelled = [m.summary for s in o.others if s.kind == "teacher" for m in s.rows.values()]
    summaries = [*([o.teaching] if o.teaching is not None else []), *labelled]
    return [summary["ledger"] for summary in summaries if "ledger" in summary]


def seconds(o: Outcome) -> dict[str, float]:
    """Seconds by stage, as they were when the stage was made, reused ones included."""
    scored = {m.path: m for s in (*o.modes, *o.others) for m in s.rows.values()}
    stages: dict[str, Sequence[Manifest | None]] = {
        "split": [o.parts],
        "reject": [o.kept],
        "encode": [o.encoded],
        "train" if o.reinforcement is None else "reinforce": o.trained,
        "reward": [] if o.reinforcement is None else list(o.reinforcement.rewards.values()),
        "evaluate": list(o.evaluations.values()),
        "export": [m for m in scored.values() if m.stage == EXPORT],
        "baseline": [m for m in scored.values() if m.stage == BASELINE],
        "decide": [s.decision for s in (*o.modes, *o.others)],
        "analyse": [o.analysis],
        "explain": [o.explained],
        "bundle": [o.bundle],
        "hardness": list(o.hard.values()),
    }
    return {
        name: round(sum(m.summary.get("seconds", 0.0) for m in found if m), 1)
        for name, found in stages.items()
        if name != "reward" or o.reinforcement is not None
    }
