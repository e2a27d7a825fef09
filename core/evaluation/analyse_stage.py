"""The analyse stage: every scorer on one split, with everything frozen before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import model_validator

from core.config.base import Section
from core.config.measure import metrics_code
from core.data.writing import read_examples
from core.errors import StageError
from core.evaluation import analysis, decision
from core.evaluation.analysis import FILE, Kind, Scored
from core.evaluation.bootstrap import RESAMPLES
from core.evaluation.decide_stage import DECISION
from core.evaluation.decision import Decision
from core.evaluation.predictions import Predictions
from core.evaluation.stage import SCORES
from core.optional import Part
from core.records import SplitName
from core.stage import StageIO, stage
from core.teacher.samples import read_samples


class ScorerSettings(Section):
    """One scorer: where its rows are among the stage's inputs, and what was frozen for it."""

    name: str
    """Its name in analysis.json: student, untrained, tfidf_words, ..."""
    title: str
    """Its name in sentences."""
    kind: Kind
    """What it is to the reader."""
    scored: str
    """The input that holds its rows of the split."""
    file: str = SCORES
    """The file in that input."""
    decision: str | None = None
    """The input that the decide stage made for it."""
    threshold: float | None = None
    """A threshold by definition instead, on probabilities as they are (that of the majority class)."""
    labels_only: bool = False
    """Whether the file holds a teacher's answers: labels without probabilities."""

    @model_validator(mode="after")
    def _one_decision(self) -> ScorerSettings:
        given = sum([self.decision is not None, self.threshold is not None, self.labels_only])
        if given != 1:
            raise ValueError(f"{self.name} needs one of decision, threshold and labels_only, and has {given}")
        return self


class AnalyseSettings(Section):
    """What is measured."""

    split: SplitName
    """Which rows."""
    scorers: tuple[ScorerSettings, ...]
    """The first is compared with each other one, and sliced."""
    rule_ids: tuple[str, ...] = ()
    """The ids that a reasoning may cite."""
    resamples: int = RESAMPLES
    """Of every interval, but those of slices."""
    seed: int
    """Draws the resamples."""
    without: tuple[Part, ...] = ()
    """Parts that failed and are left out: slices, faithfulness."""

    def key_extras(self) -> dict[str, Any]:
        """Return what identifies the code of metrics that are not built in."""
        return metrics_code()


@stage(
    "analyse",
    version=6,
    inputs=("split", "*"),
    switch="export",
    shows="student_phase/analysis.json",
    slot="analyse/{who}",
    label="analyse {who} on {settings.split}",
)
def analyse(config: AnalyseSettings, io: StageIO) -> dict[str, Any]:
    """Write analysis.json. Inputs: `split`, and those that the scorers name.

    Raises StageError if a scorer lacks rows of the split, and PartFailed for a part that can be left out.
    """
    found = analysis.analyse(
        config.split,
        read_examples(io.inputs["split"] / f"{config.split}.csv"),
        [_scorer(s, io) for s in config.scorers],
        config.rule_ids,
        resamples=config.resamples,
        seed=config.seed,
        without=config.without,
    )
    found.write(io.out / FILE)
    verdicts = {
        c.b: {name: c.differences[name].verdict for name in ("macro_f1", "auroc")} for c in found.comparisons
    }
    return {"rows": found.rows, "left_out": found.left_out, "verdicts": verdicts}


def _scorer(config: ScorerSettings, io: StageIO) -> Scored:
    path = io.inputs[config.scored] / config.file
    if config.labels_only:
        return Scored(config.name, config.title, None, None, _first_labels(path), config.kind)
    predictions = Predictions.read(path)
    twice = len(predictions) - len(predictions.indices())
    if twice:
        raise StageError(f"{config.title}: {twice} rows of {config.file} have an id that another one has")
    return Scored(config.name, config.title, predictions, _decision(config, io), kind=config.kind)


def _decision(config: ScorerSettings, io: StageIO) -> Decision:
    if config.decision is not None:
        return decision.read(io.inputs[config.decision] / DECISION)
    assert config.threshold is not None, "a scorer has one way to decide"
    return decision.by_definition(config.threshold)


def _first_labels(path: Path) -> dict[str, int | None]:
    """The first answer's label of each text: what asking once gives, without any hint."""
    return {
        a.example.id: next((s.label for s in a.answers if not s.hinted), None) for a in read_samples(path)
    }
