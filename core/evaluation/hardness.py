"""The hardness stage: a student's metrics on the texts that were hard for its teacher, and on the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import field_validator

from core.config import Config
from core.config.measure import MeasuringSettings
from core.config.rejection import RejectionConfig, RuleContext
from core.data.writing import iter_placed, read_examples
from core.evaluation import decision
from core.evaluation.bootstrap import Judged
from core.evaluation.decision import DECISION
from core.evaluation.predictions import SCORES, Predictions
from core.evaluation.slices import LEAST_ROWS, RESAMPLES, Slice, slices
from core.intervals import Difference, Share
from core.jsonio import Record, as_row
from core.records import Example, SplitName
from core.rejection.funnel import SUMMARY_FILE, Hardness
from core.rejection.rules import judge
from core.rejection.stage import (
    HARD_FILE,
    HardWriter,
    JudgedAnswer,
    JudgingSettings,
    matched,
    read_tags,
    tagged_file,
)
from core.rulebook import load_rulebook
from core.stage import StageIO, stage

if TYPE_CHECKING:
    from core.pipeline.context import RunContext

HARDNESS = "hardness.json"


class HardTexts(Record):
    """The content of hardness.json: the split's hard texts by gold label, and the student on them."""

    split: SplitName
    texts: int
    """Hard texts: every answer of the teacher to them was rejected."""
    unanswered: int
    by_label: dict[str, Share]
    """The share of hard texts among the answered texts of each gold label."""
    difference: Difference
    """The positive class's share minus the negative class's."""
    least_rows: int
    """Slices of fewer rows are not measured."""
    slices: tuple[Slice, ...]
    """The student on hard texts and on the others; empty if the split was not scored."""


class _Counted(Record):
    """What is read of teacher_summary.json."""

    hard: Hardness


class IndependentJudgingSettings(JudgingSettings):
    """Settings for judging the answers to val or test: by the rules that do not count what was accepted."""

    @field_validator("rejection")
    @classmethod
    def _each_answer_by_itself(cls, rejection: RejectionConfig) -> RejectionConfig:
        kept = tuple(rule for rule in rejection.rules if not rule.counts_accepted)
        return rejection.model_copy(update={"rules": kept})


class HardnessSettings(MeasuringSettings):
    """Settings of the hardness stage; `judging` is None if the reject stage judged the answers."""

    split: SplitName
    judging: IndependentJudgingSettings | None = None
    resamples: int = RESAMPLES
    seed: int

    @classmethod
    def of(cls, config: Config, split: SplitName) -> HardnessSettings:
        judging = None if split == "train" else IndependentJudgingSettings.of(config)
        return cls(split=split, judging=judging, seed=config.seed)


def _content(settings: HardnessSettings, context: RunContext | None = None) -> dict[str, str]:
    return {} if settings.judging is None else {"rules.dir": load_rulebook(settings.judging.rules).digest}


def _published(settings: HardnessSettings) -> dict[str, str]:
    if settings.split == "train":  # the reject stage publishes those
        return {}
    marked, listed = tagged_file(settings.split), HARD_FILE.replace(".", f"_{settings.split}.")
    return {HARD_FILE: f"teacher_phase/{listed}", marked: f"data_splits/{marked}"}


@stage(
    "hardness",
    version=2,
    inputs=("split", "answers", "scored?", "decision?"),
    content=_content,
    publishes=_published,
    shows="data_splits/{settings.split}_with_hard_tag.csv",
    switch="export",
    slot="hardness/{who}/{settings.split}",
    label="hard texts of {settings.split}",
)
def hardness(settings: HardnessSettings, io: StageIO) -> dict[str, Any]:
    """Write hardness.json and, if answers are judged here, hard_examples.jsonl and the marked split.

    Inputs: `split`; `answers`, the reject stage's object for train and the sample stage's otherwise; and, if
    the split was scored, `scored` and `decision`.
    """
    path, tagged = io.inputs["split"] / f"{settings.split}.csv", io.out
    if settings.judging is None:
        tagged = io.inputs["answers"]
        counted = _Counted.read(tagged / SUMMARY_FILE).hard
    else:
        by, samples = settings.judging, io.inputs["answers"] / "teacher_samples.jsonl"
        context = RuleContext(load_rulebook(by.rules).ids, by.labels)
        with HardWriter(io.out, settings.split, by.labels) as hard:
            for line, answered in matched(iter_placed(path), samples, settings.split):
                e = answered.example
                judged = [JudgedAnswer(a, judge(by.rejection, a, e, context)) for a in answered.answers]
                hard.add(line, e, judged)
        counted = hard.hardness()
    tags = dict(read_tags(tagged / tagged_file(settings.split)))
    found = _slices(settings, read_examples(path), tags, io) if "scored" in io.inputs else []
    HardTexts(split=settings.split, **as_row(counted), least_rows=LEAST_ROWS, slices=tuple(found)).write(
        io.out / HARDNESS
    )
    return {"hard": counted.texts, "unanswered": counted.unanswered}


def _slices(
    settings: HardnessSettings, examples: Sequence[Example], tags: Mapping[str, bool | None], io: StageIO
) -> list[Slice]:
    """Measure the student on hard texts and on the others."""
    frozen = decision.read(io.inputs["decision"] / DECISION)
    scored = Predictions.read(io.inputs["scored"] / SCORES).without_failed()
    at = scored.indices()
    kept = [e for e in examples if e.id in at]
    rows = frozen.calibrated(scored.take([at[e.id] for e in kept]))
    judged = Judged.of(rows, frozen.threshold, frozen.reason)
    labeling = {
        name: np.array([tags[e.id] is hard for e in kept], dtype=np.bool_)
        for name, hard in (("hard", True), ("not hard", False))
    }
    groups, seed = [e.group for e in kept], settings.seed
    return slices("hard", labeling, rows.positive, judged, groups, resamples=settings.resamples, seed=seed)
