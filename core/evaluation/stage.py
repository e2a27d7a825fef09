"""Measuring a checkpoint on a split: the evaluate stage on val, and the export stage on each split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from core import jsonio
from core.config.base import Section
from core.data.making import subset
from core.data.reading import Row
from core.data.writing import read_examples
from core.evaluation import metrics
from core.evaluation.scoring import ScoreSettings, add_reasoning, score_examples
from core.evaluation.threshold import choose
from core.records import Example, ScoredExample
from core.stageio import StageIO
from core.student.encoding import Encoder, EncodeSlice
from core.student.engine import Engine, Sampler
from core.student.segment import checkpoint

EVALUATE = "evaluate"
EXPORT = "export"
VERSION = 1
SCORES = "scores.jsonl"
METRICS = "metrics.json"


class MeasureSlice(Section):
    """What decides the numbers of one checkpoint on one split."""

    engine: str
    device: str
    threads: int | None
    """The processor's threads: with engine and device what decides the last bits of every score."""
    prompt: EncodeSlice
    split: Literal["train", "val", "test"]
    label_only: bool
    """Ask with the label-only prompt instead of the one the student was trained on."""
    threshold: float | None
    """None finds the threshold on these rows, which only val may do."""
    max_examples: int
    max_new_tokens: int
    reasoning_rows: int
    seed: int


@dataclass(frozen=True, slots=True)
class MeasureRun:
    """The stage's function, bound to the engine and to the encoder, opened only when needed.

    Inputs: `split`; `checkpoint`, a training segment, absent for the untrained model; `scored`,
    rows that were scored before, so that only reasoning is left to generate.
    """

    engine: Callable[[], Engine]
    encoder: Callable[[bool], Encoder]

    def __call__(self, config: MeasureSlice, io: StageIO) -> dict[str, Any]:
        examples = read_examples(io.inputs["split"] / f"{config.split}.csv")
        if config.max_examples:
            rows_of = [Row(e, "", 0) for e in examples]
            examples = [row.example for row in subset(rows_of, config.max_examples, config.seed)]
        rows = self._rows(config, io, examples)
        if config.threshold is None and config.split != "val":
            raise ValueError("a threshold is found on val only")
        threshold = choose(rows).value if config.threshold is None else config.threshold
        result = metrics.compute(rows, threshold)
        jsonio.write_jsonl(io.out / SCORES, map(jsonio.as_row, rows))
        jsonio.write_json(io.out / METRICS, result.to_json())
        return {
            "rows": len(rows),
            "threshold": threshold,
            "cut_texts": sum(row.truncated_tokens > 0 for row in rows),
            "reasonings": sum(row.raw_output is not None for row in rows),
        }

    def _rows(self, config: MeasureSlice, io: StageIO, examples: list[Example]) -> list[ScoredExample]:
        encoder = self.encoder(config.label_only)
        settings = ScoreSettings(config.max_new_tokens, config.reasoning_rows)
        scored = read_scores(io.inputs["scored"] / SCORES) if "scored" in io.inputs else None
        if scored is not None and not _needs_generation(encoder, settings):
            return scored
        sampler = self._sampler(io)
        try:
            if scored is not None:
                return add_reasoning(sampler, encoder, examples, scored, settings, io.progress)
            return score_examples(sampler, encoder, examples, settings, io.progress)
        finally:
            sampler.close()

    def _sampler(self, io: StageIO) -> Sampler:
        engine = self.engine()
        if "checkpoint" not in io.inputs:
            return engine.sampler(None)
        return engine.sampler(checkpoint(engine, io.inputs["checkpoint"]).sampler)


def _needs_generation(encoder: Encoder, settings: ScoreSettings) -> bool:
    return encoder.target == "label_first" and settings.reasoning_rows > 0


def read_scores(path: Path) -> list[ScoredExample]:
    """The scored rows of a measured split, in order, from its SCORES file."""
    return [ScoredExample(**row) for row in jsonio.read_jsonl(path)]


def read_metrics(path: Path) -> metrics.Metrics:
    """The metrics of a measured split, from its METRICS file."""
    return metrics.from_json(jsonio.read_json(path))
