"""Scoring a checkpoint on a split: the evaluate stage, which measures val, and the export stage.

What export leaves depends on no threshold: another objective scores nothing anew.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from core import jsonio
from core.config import Config
from core.config.base import Section
from core.config.engine import EngineChoice
from core.config.measure import metrics_code
from core.data.splitting import subset
from core.data.writing import read_examples
from core.engines.base import Engine, Metered, Sampler
from core.errors import StageError
from core.evaluation import metrics
from core.evaluation.predictions import Predictions
from core.evaluation.scoring import ScoreSettings, add_reasoning, score_texts
from core.evaluation.threshold import choose
from core.jsonio import Record
from core.progress import Saying
from core.records import Example, SplitName
from core.stage import StageIO, stage
from core.student.encoding import Encoder, EncodeSettings
from core.student.segment import checkpoint

if TYPE_CHECKING:
    from core.pipeline.context import RunContext

SCORES = "scores.jsonl"
METRICS = "metrics.json"
MOST_FAILED = 0.01
"""Share of rows that a server may fail on; these are in no metric, and the report counts them."""


class ScoringSummary(Record):
    """What is read of the summaries of both stages."""

    cut_texts: int = 0
    """Texts that were truncated to fit the prompt."""
    failed_rows: int = 0
    """Rows that a server did not score; they are in no metric."""
    bounded_rows: int = 0
    """Rows with a label that the server did not list, so that its probability is an upper bound."""


class MeasureSettings(Section):
    """What decides the numbers of one checkpoint on one split."""

    engine: EngineChoice
    """Its settings decide the last bits of every score."""
    prompt: EncodeSettings
    split: Literal["train", "val", "test"]
    label_only: bool
    """Ask with the label-only prompt instead of the one the student was trained on."""
    measured: bool
    """Choose the threshold on these rows and measure them at it, which only val may be used for;
    otherwise the scores are left, for the decide stage and whoever judges by its decision."""
    max_examples: int
    max_new_tokens: int
    reasoning_rows: int
    seed: int

    def key_extras(self) -> dict[str, Any]:
        """Return what identifies the code of metrics that are not built in."""
        return metrics_code() if self.measured else {}

    @property
    def mode(self) -> str:
        """How the student is asked, as slots and file names say it."""
        return "label_only" if self.label_only else "reasoning"

    @classmethod
    def for_evaluation(cls, config: Config) -> MeasureSettings:
        """Of a checkpoint on val, while the student is trained."""
        evaluation = config.evaluation
        return cls._of(
            config,
            "val",
            measured=True,
            max_examples=evaluation.max_examples,
            max_new_tokens=evaluation.max_new_tokens,
        )

    @classmethod
    def for_export(
        cls,
        config: Config,
        split: SplitName,
        *,
        label_only: bool = False,
        generates: bool = False,
        rulebook: bool | None = None,
    ) -> MeasureSettings:
        """Of all rows of a split; `generates` reasonings for some. `rulebook` shows it, or not, whatever
        the student's own prompt does."""
        return cls._of(
            config,
            split,
            label_only=label_only,
            max_new_tokens=config.longest_reasoning,
            reasoning_rows=config.export.reasoning_rows if generates and not label_only else 0,
            rulebook=rulebook,
        )

    @classmethod
    def _of(
        cls,
        config: Config,
        split: SplitName,
        *,
        max_new_tokens: int,
        label_only: bool = False,
        measured: bool = False,
        max_examples: int = 0,
        reasoning_rows: int = 0,
        rulebook: bool | None = None,
    ) -> MeasureSettings:
        student = config.student
        prompt = EncodeSettings.of(student)
        if rulebook is not None:
            prompt = prompt.model_copy(update={"rulebook": rulebook})
        return cls(
            engine=student.engine.for_sampling(),
            prompt=prompt,
            split=split,
            label_only=label_only,
            measured=measured,
            max_examples=max_examples,
            max_new_tokens=max_new_tokens,
            reasoning_rows=reasoning_rows,
            seed=config.seed,
        )


def content(config: MeasureSettings, context: RunContext) -> dict[str, str]:
    """Digests of the base model and of the prompt."""
    return context.student_content(config.prompt.rulebook)


def score_split(config: MeasureSettings, io: StageIO) -> dict[str, Any]:
    """Write scores.jsonl and, where the rows are `measured`, metrics.json.

    Inputs: `split`; `checkpoint`, a training segment, absent for the untrained model; `scored`, the same
    rows scored before, so that only reasoning is left to generate.
    """
    examples = read_examples(io.inputs["split"] / f"{config.split}.csv")
    examples = [examples[i] for i in subset(examples, config.max_examples, config.seed)]
    progress = Saying(io.progress, 0, len(examples))
    rows, usage = _rows(config, replace(io, progress=progress), examples, progress.say)
    counted = _without_failed(rows)
    rows.write(io.out / SCORES)
    if config.measured:
        _measure(config, counted, io.out / METRICS)
    return {
        "rows": len(rows),
        "cut_texts": int((rows.truncated_tokens > 0).sum()),
        "reasonings": sum(generated.text is not None for generated in rows.generated),
        "failed_rows": len(rows) - len(counted),
        "bounded_rows": int(rows.bounded.sum()),
        **usage,
    }


evaluate = stage(
    "evaluate",
    version=4,
    inputs=("split", "checkpoint?"),
    content=content,
    shows="{phase.folder}/eval_history.jsonl",
    slot="evaluate/{phase.slot}{step}",
    label="evaluate {phase.said}step {step} on val",
)(score_split)
"""Measures a checkpoint, or the untrained model, on val."""

export = stage(
    "export",
    version=4,
    inputs=("split", "checkpoint?", "scored?"),
    content=content,
    shows="student_phase/{settings.split}.json",
    slot=lambda config: f"export/{{who}}/{config.split}/{config.mode}",
    label=lambda config: f"export {{who}} on {config.split}, {config.mode}",
)(score_split)
"""Scores a split; calibration, threshold and metrics follow in other stages."""


def _rows(
    config: MeasureSettings, io: StageIO, examples: list[Example], say: Callable[[str], None]
) -> tuple[Predictions, dict[str, Any]]:
    """The predictions with gold labels, and the summary's tokens where a server bills them."""
    encoder = io.context.encoder_of(config.prompt, config.label_only)
    settings = ScoreSettings(config.max_new_tokens, config.reasoning_rows)
    scored = Predictions.read(io.inputs["scored"] / SCORES) if "scored" in io.inputs else None
    if scored is not None and not _needs_generation(encoder, settings):
        return scored, {}
    engine, texts = io.context.engine, [e.text for e in examples]
    with engine.report_waits(say), closing(_sampler(engine, io)) as sampler:
        if scored is not None:
            rows = add_reasoning(sampler, encoder, texts, scored, settings, io.progress)
        else:
            ids = [e.id for e in examples]
            rows = score_texts(sampler, encoder, ids, texts, settings, io.progress)
    return rows.with_gold([e.label for e in examples]), used(sampler)


def _sampler(engine: Engine, io: StageIO) -> Sampler:
    if "checkpoint" not in io.inputs:
        return engine.sampler(None)
    return engine.sampler(checkpoint(engine, io.inputs["checkpoint"]).sampler)


def _measure(config: MeasureSettings, rows: Predictions, path: Path) -> None:
    if config.split != "val":
        raise ValueError("a threshold is found on val only")
    jsonio.write_json(path, metrics.compute(rows, choose(rows).value).to_json())


def _without_failed(rows: Predictions) -> Predictions:
    """The rows that a server scored. Raises StageError if it failed on more than MOST_FAILED of them."""
    failed = rows.take(rows.failed)
    if len(failed) > max(1, MOST_FAILED * len(rows)):
        raise StageError(
            f"{len(failed)} of {len(rows)} rows could not be scored, {failed.ids[0]} for one "
            f"({failed.errors[0]}); run the same command again"
        )
    return rows.without_failed()


def used(sampler: Sampler) -> dict[str, Any]:
    """What a summary says of the tokens that a server bills; nothing of a sampler that bills none."""
    return {"usage": sampler.usage.to_json()} if isinstance(sampler, Metered) else {}


def _needs_generation(encoder: Encoder, settings: ScoreSettings) -> bool:
    return encoder.target == "label_first" and settings.reasoning_rows > 0


def read_metrics(path: Path) -> metrics.Metrics:
    """The metrics of a measured split, from its METRICS file."""
    return metrics.Metrics.from_json(jsonio.read_json(path))
