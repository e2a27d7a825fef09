"""What a student is asked: the probabilities of the labels, its reasoning, and the stages that measure both.

evaluate measures a checkpoint on val, export scores a split, explain adds reasoning to the worst errors. The
label block is scored where the deployed model states the label: directly after the prompt, or, for
reason_first, after the generated reasoning. A choice is the whole token sequence from the beginning of the
label block through the label.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from core import jsonio
from core.config import Config, ConfigSection, EngineChoice, metrics_code
from core.data.splitting import subset
from core.engines import GenerateParams, Metered, Sampler
from core.errors import StageError
from core.evaluation.decision import DECISION, Decision, worst_errors
from core.evaluation.metrics import Metrics, compute
from core.evaluation.predictions import SCORES, Generated, Predictions
from core.evaluation.threshold import choose
from core.jsonio import Record
from core.progress import NotedProgress, Progress
from core.records import SplitName, read_examples
from core.stage import StageIO, stage
from core.student.encoding import Encoder, EncodeSettings, Prompt
from core.student.train_stage import checkpoint

if TYPE_CHECKING:
    from core.pipeline.run_context import RunContext

log = logging.getLogger(__name__)

METRICS_FILE = "metrics.json"
EXPLAINED = "explained.jsonl"
MOST_FAILED = 0.01
"""Share of rows that a server may fail on."""


class ScoringSummary(Record):
    """What is read of the summaries of evaluate and export."""

    cut_texts: int = 0
    """Texts that were truncated to fit the prompt."""
    failed_rows: int = 0
    """Rows that a server did not score; they are in no metric."""
    bounded_rows: int = 0
    """Rows with a label that the server did not list, so that its probability is an upper bound."""


class MeasureSettings(ConfigSection):
    """Settings of evaluate and export: one checkpoint on one split."""

    engine: EngineChoice
    """Its settings decide the last bits of every score."""
    prompt: EncodeSettings
    split: Literal["train", "val", "test"]
    label_only: bool = False
    """Ask with the label-only prompt instead of the one the student was trained on."""
    measured: bool = False
    """Choose the threshold on these rows, which must be val, and measure them at it; otherwise only score."""
    max_examples: int = 0
    max_new_tokens: int
    reasoning_rows: int = 0
    seed: int

    def key_extras(self) -> dict[str, Any]:
        """Return what identifies the code of metrics that are not built in."""
        return metrics_code() if self.measured else {}

    @property
    def mode(self) -> str:
        return "label_only" if self.label_only else "reasoning"

    @classmethod
    def for_evaluation(cls, config: Config) -> MeasureSettings:
        """Return the settings for a checkpoint on val during training."""
        return cls(
            engine=config.student.engine.for_sampling(),
            prompt=EncodeSettings.of(config.student),
            split="val",
            measured=True,
            max_examples=config.evaluation.max_examples,
            max_new_tokens=config.evaluation.max_new_tokens,
            seed=config.seed,
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
        """Return the settings for all rows of a split; `generates` reasoning for some of them.

        `rulebook` shows or hides it, overriding the student's own prompt.
        """
        prompt = EncodeSettings.of(config.student)
        if rulebook is not None:
            prompt = prompt.model_copy(update={"rulebook": rulebook})
        return cls(
            engine=config.student.engine.for_sampling(),
            prompt=prompt,
            split=split,
            label_only=label_only,
            max_new_tokens=config.longest_reasoning,
            reasoning_rows=config.export.reasoning_rows if generates and not label_only else 0,
            seed=config.seed,
        )


def _content(settings: MeasureSettings, context: RunContext) -> dict[str, str]:
    return context.student_content(settings.prompt.rulebook)


def score_split(settings: MeasureSettings, io: StageIO) -> dict[str, Any]:
    """Write scores.jsonl and, if the rows are `measured`, metrics.json.

    Inputs: `split`; `checkpoint`, a training segment, absent for the untrained model; `scored`, the same
    rows scored before, so that only reasoning is left to generate. Raises StageError if a server failed on
    more than MOST_FAILED of the rows.
    """
    examples = read_examples(io.input("split") / f"{settings.split}.csv")
    examples = [examples[i] for i in subset(examples, settings.max_examples, settings.seed)]
    ids, texts = [e.id for e in examples], [e.text for e in examples]
    encoder = io.context.encoder_of(settings.prompt, settings.label_only)
    how, usage = ScoreSettings(settings.max_new_tokens, settings.reasoning_rows), {}
    earlier = io.optional("scored")
    rows = None if earlier is None else Predictions.read(earlier / SCORES)
    if rows is None or (encoder.target == "label_first" and how.reasoning_rows > 0):
        with sampling(io, len(texts)) as (sampler, progress):
            if rows is not None:
                rows = add_reasoning(sampler, encoder, texts, rows, how, progress)
            else:
                rows = score_texts(sampler, encoder, ids, texts, how, progress)
            usage = billed(sampler)
        rows = rows.with_gold([e.label for e in examples])
    counted, failed = rows.without_failed(), rows.take(rows.failed)
    if len(failed) > max(1, MOST_FAILED * len(rows)):
        raise StageError(
            f"{len(failed)} of {len(rows)} rows could not be scored, {failed.ids[0]} for one "
            f"({failed.errors[0]}); run the same command again"
        )
    rows.write(io.out / SCORES)
    if settings.measured:
        if settings.split != "val":
            raise ValueError("a threshold is chosen on val only")
        at = choose(counted.positive, counted.probability).value
        jsonio.write_json(io.out / METRICS_FILE, compute(counted, at).to_json())
    return {
        "rows": len(rows),
        "cut_texts": int((rows.truncated_tokens > 0).sum()),
        "reasonings": sum(generated.text is not None for generated in rows.generated),
        "failed_rows": len(failed),
        "bounded_rows": int(rows.bounded.sum()),
        **usage,
    }


evaluate = stage(
    "evaluate",
    version=4,
    inputs=("split", "checkpoint?"),
    content=_content,
    shows="{phase.folder}/eval_history.jsonl",
    slot="evaluate/{phase.slot}{step}",
    label="evaluate {phase.prefix}step {step} on val",
)(score_split)
"""Measures a checkpoint, or the untrained model, on val."""

export = stage(
    "export",
    version=4,
    inputs=("split", "checkpoint?", "scored?"),
    content=_content,
    shows="student_phase/{settings.split}.json",
    slot=lambda settings: f"export/{{who}}/{settings.split}/{settings.mode}",
    label=lambda settings: f"export {{who}} on {settings.split}, {settings.mode}",
)(score_split)
"""Scores a split; calibration, threshold and metrics follow in other stages."""


def read_metrics(path: Path) -> Metrics:
    """Return the metrics in a METRICS_FILE file."""
    return Metrics.from_json(jsonio.read_json(path))


@contextmanager
def sampling(io: StageIO, rows: int) -> Iterator[tuple[Sampler, NotedProgress]]:
    """Open a sampler of the input `checkpoint`, or of the untrained model, with progress over `rows`."""
    engine, progress = io.context.engine, NotedProgress(io.progress, 0, rows)
    folder = io.optional("checkpoint")
    ref = None if folder is None else checkpoint(engine, folder).sampler
    with engine.report_waits(progress.note), closing(engine.sampler(ref)) as sampler:
        yield sampler, progress


def billed(sampler: Sampler) -> dict[str, Any]:
    """Return the summary's tokens, if the server bills them."""
    return {"usage": sampler.usage.to_json()} if isinstance(sampler, Metered) else {}


class ExplainSettings(ConfigSection):
    """Settings of the explain stage, for the `rows` worst errors."""

    engine: EngineChoice
    prompt: EncodeSettings
    split: SplitName
    rows: int
    max_new_tokens: int

    @classmethod
    def of(cls, config: Config, split: SplitName) -> ExplainSettings:
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
    content=lambda settings, context: context.student_content(),
    switch="export",
    shows="report.html",
    slot="explain/{who}",
    label="explain the worst errors of {who} on {settings.split}",
)
def explain(settings: ExplainSettings, io: StageIO) -> dict[str, Any]:
    """Write explained.jsonl, the worst errors with their reasoning, the most confident first."""
    examples = read_examples(io.input("split") / f"{settings.split}.csv")
    scored = Predictions.read(io.input("scored") / SCORES)
    wrong = worst_errors(scored, Decision.read(io.input("decision") / DECISION), settings.rows)
    silent = [i for i in wrong if scored.generated[i].text is None]
    explained, usage = scored.take(silent), {}
    if silent:
        encoder, texts = io.context.encoder_of(settings.prompt, False), [examples[i].text for i in silent]
        how = ScoreSettings(settings.max_new_tokens, len(texts))
        with sampling(io, len(texts)) as (sampler, progress):
            explained = add_reasoning(sampler, encoder, texts, explained, how, progress)
            usage = billed(sampler)
    scored.take(wrong).with_generated(explained).write(io.out / EXPLAINED)
    return {"rows": len(wrong), "generated": len(silent), **usage}


@dataclass(frozen=True, slots=True)
class ScoreSettings:
    """How much is generated: for reason_first for every text, else for the first `reasoning_rows`."""

    max_new_tokens: int
    reasoning_rows: int = 0


def score_texts(
    sampler: Sampler,
    encoder: Encoder,
    ids: Sequence[str],
    texts: Sequence[str],
    settings: ScoreSettings,
    progress: Progress,
) -> Predictions:
    """Score the labels of every text, in order. Gold labels are not needed."""
    prompts = _prompts(encoder, texts, settings)
    prefixes = dict(enumerate(p.tokens for p in prompts))
    generated, errors = [Generated()] * len(ids), list[str | None]([None] * len(ids))
    if encoder.target == "reason_first":
        generated, errors = _generate(sampler, encoder, prompts, settings, progress)
        prefixes = {  # of the texts whose reasoning ended, so that the label is reached
            i: (*prompts[i].tokens, *encoder.reason_prefix(g.reasoning))
            for i, g in enumerate(generated)
            if g.reasoning is not None
        }
    zero, one = (encoder.choices()[label] for label in encoder.labels)
    found = sampler.score(list(prefixes.values()), [*zero, *one], progress=progress.update)
    bounded = {k for k, _ in found.bounds}
    p, off_label, is_bound = np.full(len(ids), np.nan), np.ones(len(ids)), np.zeros(len(ids), np.bool_)
    for k, (i, row) in enumerate(zip(prefixes, found.logprobs, strict=True)):
        if not row:
            errors[i] = found.errors.get(k, "the server gave no score")
            log.warning("row %s was not scored: %s", ids[i], errors[i])
        else:
            of_zero, of_one = row[: len(zero)], row[len(zero) :]
            mass = 1.0 - math.exp(logsumexp(of_zero)) - math.exp(logsumexp(of_one))
            p[i], off_label[i] = label_probability(of_zero, of_one), min(max(0.0, mass), 1.0)
            is_bound[i] = k in bounded
    predictions = Predictions.of(
        ids,
        p,
        off_label_mass=off_label,
        errors=errors,
        generated=generated,
        truncated_tokens=[prompt.cut for prompt in prompts],
        bounded=is_bound,
    )
    if encoder.target == "label_first":
        return add_reasoning(sampler, encoder, texts, predictions, settings, progress)
    return predictions


def add_reasoning(
    sampler: Sampler,
    encoder: Encoder,
    texts: Sequence[str],
    predictions: Predictions,
    settings: ScoreSettings,
    progress: Progress,
) -> Predictions:
    """Generate the reasoning of the first texts, which were scored before."""
    n = min(settings.reasoning_rows, len(predictions))
    if n == 0:
        return predictions
    prompts = _prompts(encoder, texts[:n], settings)
    first, _ = _generate(sampler, encoder, prompts, settings, progress)
    return replace(predictions, generated=(*first, *predictions.generated[n:]))


def label_probability(zero: Sequence[float], one: Sequence[float]) -> float:
    """Return P(1) among both labels, from the log-probabilities (nats) of each label's surface forms.

    NaN if neither has any mass that a float can hold.
    """
    log_zero, log_one = logsumexp(zero), logsumexp(one)
    if log_zero == log_one == -math.inf:
        return math.nan
    return 1.0 / (1.0 + math.exp(min(log_zero - log_one, 700.0)))


def logsumexp(values: Sequence[float]) -> float:
    """Return the log of the sum of exponentials, without overflow."""
    top = max(values)
    if top == -math.inf:
        return top
    return top + math.log(sum(math.exp(v - top) for v in values))


def _prompts(encoder: Encoder, texts: Sequence[str], settings: ScoreSettings) -> list[Prompt]:
    generated = settings.max_new_tokens if encoder.target == "reason_first" else 0
    return encoder.prompts(texts, encoder.label_tokens + generated)


def _generate(
    sampler: Sampler, encoder: Encoder, prompts: Sequence[Prompt], settings: ScoreSettings, progress: Progress
) -> tuple[list[Generated], list[str | None]]:
    """Return the parsed completions, and the errors of those that failed, which have no content."""
    longest = settings.max_new_tokens + encoder.label_tokens
    params = GenerateParams(max_tokens=longest, stop_tokens=encoder.stop_tokens)
    found, errors = list[Generated](), list[str | None]()
    for generation in sampler.generate([p.tokens for p in prompts], params, progress=progress.update):
        errors.append(generation.error)
        if generation.error is not None:
            found.append(Generated(finish=generation.finish))
        else:
            text, parsed = encoder.read(generation.tokens)
            found.append(Generated(text, parsed.reasoning, parsed.label, generation.finish))
    return found, errors
