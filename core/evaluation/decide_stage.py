"""The decide stage: calibration and threshold of one scorer, from its scores of val."""

from __future__ import annotations

from typing import Any

from core.config import Config
from core.config.base import Section
from core.config.measure import CalibrationConfig, ThresholdConfig, metrics_code
from core.data.writing import read_examples
from core.errors import StageError
from core.evaluation import decision
from core.evaluation.predictions import Predictions
from core.evaluation.stage import SCORES
from core.stage import StageIO, stage

DECISION = "decision.json"


class DecideSettings(Section):
    """What decides the calibrator and the threshold, besides the scores."""

    threshold: ThresholdConfig
    """The config's `evaluation.threshold`."""
    calibration: CalibrationConfig
    """The config's `evaluation.calibration`."""
    scores: str = SCORES
    """The file of the input `scored` that holds val's scores."""
    seed: int
    """Draws the resamples, and the folds of auto calibration."""

    def key_extras(self) -> dict[str, Any]:
        """Return what identifies the code of metrics that are not built in."""
        return metrics_code()

    @classmethod
    def of(cls, config: Config, file: str = SCORES) -> DecideSettings:
        """The part of the config that decides; `file` holds val's scores."""
        evaluation = config.evaluation
        return cls(
            threshold=evaluation.threshold,
            calibration=evaluation.calibration,
            scores=file,
            seed=config.seed,
        )


@stage(
    "decide",
    version=2,
    inputs=("split", "scored"),
    switch="export",
    shows="student_phase/decision.json",
    slot="decide/{who}",
    label="decide the threshold of {who}",
)
def decide(config: DecideSettings, io: StageIO) -> dict[str, Any]:
    """Write decision.json. Inputs: `scored`, and `split` for the rows' groups.

    Rows that a server failed on are left out. Raises StageError where a score is of no row of val.
    """
    scored = Predictions.read(io.inputs["scored"] / config.scores).without_failed()
    group_of = {e.id: e.group for e in read_examples(io.inputs["split"] / "val.csv")}
    strange = [name for name in scored.ids if name not in group_of]
    if strange:
        raise StageError(
            f"{config.scores} holds {len(strange)} rows that are not of val, {strange[0]} for one: "
            "calibration and threshold are fitted on val only"
        )
    groups = [group_of[name] for name in scored.ids]
    found = decision.decide(scored, config.threshold, config.calibration, groups, seed=config.seed)
    found.write(io.out / DECISION)
    return {
        "rows": len(scored),
        "calibration": found.calibrator.kind,
        "threshold": found.threshold.value,
        "reason": found.threshold.reason,
    }
