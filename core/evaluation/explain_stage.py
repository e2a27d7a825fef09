"""The explain stage: what the student says of the rows that it decides most surely and wrongly."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from core.config import Config
from core.config.base import Section
from core.config.engine import EngineChoice
from core.data.writing import read_examples
from core.evaluation import decision
from core.evaluation.decide_stage import DECISION
from core.evaluation.mistakes import surest_wrong
from core.evaluation.predictions import Predictions
from core.evaluation.scoring import ScoreSettings, add_reasoning
from core.evaluation.stage import SCORES, used
from core.progress import Saying
from core.records import SplitName
from core.stage import StageIO, stage
from core.student.encoding import EncodeSettings
from core.student.segment import checkpoint

EXPLAINED = "explained.jsonl"


class ExplainSettings(Section):
    """What decides which rows are explained, and how."""

    engine: EngineChoice
    prompt: EncodeSettings
    split: SplitName
    rows: int
    """Of the worst errors, how many."""
    max_new_tokens: int

    @classmethod
    def of(cls, config: Config, split: SplitName) -> ExplainSettings:
        """The part of the config that decides the explanations of a split."""
        return cls(
            engine=config.student.engine.for_sampling(),
            prompt=EncodeSettings.of(config.student),
            split=split,
            rows=config.export.error_rows,
            max_new_tokens=config.longest_reasoning,
        )


@stage(
    "explain",
    version=3,
    inputs=("split", "checkpoint", "scored", "decision?"),
    content=lambda config, context: context.student_content(),
    switch="export",
    shows="report.html",
    slot="explain/{who}",
    label="explain the worst errors of {who} on {settings.split}",
)
def explain(config: ExplainSettings, io: StageIO) -> dict[str, Any]:
    """Write explained.jsonl, the rows with their reasoning, the most confident errors first."""
    examples = read_examples(io.inputs["split"] / f"{config.split}.csv")
    scored = Predictions.read(io.inputs["scored"] / SCORES)
    frozen = decision.read(io.inputs["decision"] / DECISION)
    wrong = surest_wrong(scored, frozen, config.rows)
    silent = [i for i in wrong if scored.generated[i].text is None]
    explained, usage = _explain(config, io, [examples[i].text for i in silent], scored.take(silent))
    scored.take(wrong).with_generated(explained).write(io.out / EXPLAINED)
    return {"rows": len(wrong), "generated": len(silent), **usage}


def _explain(
    config: ExplainSettings, io: StageIO, texts: list[str], scored: Predictions
) -> tuple[Predictions, dict[str, Any]]:
    """The rows with their reasoning, and the summary's tokens where a server bills them."""
    if not texts:
        return scored, {}
    engine, encoder = io.context.engine, io.context.encoder_of(config.prompt, False)
    progress = Saying(io.progress, 0, len(texts))
    settings = ScoreSettings(config.max_new_tokens, len(texts))
    ref = checkpoint(engine, io.inputs["checkpoint"]).sampler
    with engine.report_waits(progress.say), closing(engine.sampler(ref)) as sampler:
        return add_reasoning(sampler, encoder, texts, scored, settings, progress), used(sampler)
