"""The explain stage: what the student says of the rows that it decides most surely and wrongly."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from core import jsonio
from core.config.base import Section
from core.data.writing import read_examples
from core.evaluation import decision
from core.evaluation.decide_stage import DECISION
from core.evaluation.mistakes import surest_wrong
from core.evaluation.scoring import ScoreSettings, add_reasoning
from core.evaluation.stage import SCORES, read_scores, used
from core.progress import Saying
from core.records import Example, ScoredExample, SplitName
from core.stageio import StageIO
from core.student.encoding import Encoder, EncodeSlice
from core.student.engine import Engine
from core.student.segment import checkpoint

NAME = "explain"
VERSION = 3
EXPLAINED = "explained.jsonl"


class ExplainSlice(Section):
    """What decides which rows are explained, and how."""

    engine: str
    device: str
    threads: int | None
    prompt: EncodeSlice
    split: SplitName
    rows: int
    """Of the worst errors, how many."""
    max_new_tokens: int


@dataclass(frozen=True, slots=True)
class ExplainRun:
    """The stage's function. Inputs: `split`, `checkpoint`, `scored` and `decision`."""

    engine: Callable[[], Engine]
    encoder: Callable[[EncodeSlice, bool], Encoder]

    def __call__(self, config: ExplainSlice, io: StageIO) -> dict[str, Any]:
        """Write explained.jsonl, the rows with their reasoning, the surest errors first."""
        examples = read_examples(io.inputs["split"] / f"{config.split}.csv")
        scored = read_scores(io.inputs["scored"] / SCORES)
        frozen = decision.read(io.inputs["decision"] / DECISION)
        places = surest_wrong(scored, frozen, config.rows)
        silent = [i for i in places if scored[i].raw_output is None]
        asked = [(examples[i], scored[i]) for i in silent]
        spoken, usage = self._say(config, io, asked)
        said = dict(zip(silent, spoken, strict=True))
        rows = [said.get(i, scored[i]) for i in places]
        jsonio.write_jsonl(io.out / EXPLAINED, map(jsonio.as_row, rows))
        return {"rows": len(rows), "generated": len(silent), **usage}

    def _say(
        self, config: ExplainSlice, io: StageIO, asked: list[tuple[Example, ScoredExample]]
    ) -> tuple[list[ScoredExample], dict[str, Any]]:
        """The rows with what the model says of them, and what the summary says of the price."""
        if not asked:
            return [], {}
        engine, encoder = self.engine(), self.encoder(config.prompt, False)
        progress = Saying(io.progress, 0, len(asked))
        settings = ScoreSettings(config.max_new_tokens, len(asked))
        ref = checkpoint(engine, io.inputs["checkpoint"]).sampler
        with engine.waits(progress.say), closing(engine.sampler(ref)) as sampler:
            examples, rows = [e for e, _ in asked], [row for _, row in asked]
            return add_reasoning(sampler, encoder, examples, rows, settings, progress), used(sampler)
