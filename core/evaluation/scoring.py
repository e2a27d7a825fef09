"""Label probabilities at the place where the deployed model states the label, and its generated reasoning.

The label block is scored directly after the prompt, or, for reason_first, after the reasoning that the model
itself generated; never after a placeholder or the gold reasoning. A choice is the whole token sequence from
the beginning of the label block through the label, so the off-label mass is the probability that the model
would not have answered in the form it learned.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from core.engines.sampling import GenerateParams, Generation, Sampler
from core.evaluation.predictions import Generated, Predictions
from core.progress import Progress
from core.student.encoding import Encoder, Prompt

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ScoreSettings:
    """How much is generated: for reason_first for every text, else for the first `reasoning_rows`."""

    max_new_tokens: int
    reasoning_rows: int = 0


@dataclass(frozen=True, slots=True)
class _Score:
    """One row of Predictions; by default of a reasoning that never ended, so that no label was reached."""

    probability: float = math.nan
    off_label_mass: float = 1.0
    error: str | None = None
    bounded: bool = False


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
    reached, prefixes = list(range(len(ids))), [p.tokens for p in prompts]
    scores, generated = [_Score() for _ in ids], None
    if encoder.target == "reason_first":
        generations = _generate(sampler, encoder, prompts, settings, progress)
        scores = [_Score(error=g.error) for g in generations]
        generated = [_read(encoder, g) for g in generations]
        reasonings = {i: g.reasoning for i, g in enumerate(generated) if g.reasoning is not None}
        reached = list(reasonings)
        prefixes = [(*prompts[i].tokens, *encoder.reason_prefix(text)) for i, text in reasonings.items()]
    at_label = _score_labels(sampler, encoder, [ids[i] for i in reached], prefixes, progress)
    for i, score in zip(reached, at_label, strict=True):
        scores[i] = score
    predictions = Predictions.of(
        ids,
        [s.probability for s in scores],
        off_label_mass=[s.off_label_mass for s in scores],
        errors=[s.error for s in scores],
        generated=generated,
        truncated_tokens=[p.cut for p in prompts],
        bounded=[s.bounded for s in scores],
    )
    if encoder.target != "label_first":
        return predictions
    return add_reasoning(sampler, encoder, texts, predictions, settings, progress)


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
    first = [_read(encoder, g) for g in _generate(sampler, encoder, prompts, settings, progress)]
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
    reserve = encoder.label_tokens
    if encoder.target == "reason_first":
        reserve += settings.max_new_tokens
    return encoder.prompts(texts, reserve)


def _score_labels(
    sampler: Sampler,
    encoder: Encoder,
    ids: Sequence[str],
    prefixes: Sequence[tuple[int, ...]],
    progress: Progress,
) -> list[_Score]:
    """Score the labels after each prefix, which ends where the label block begins."""
    zero, one = (encoder.choices()[label] for label in encoder.labels)
    found = sampler.score(list(prefixes), [*zero, *one], progress=progress.update)
    for i, why in found.errors.items():
        log.warning("row %s was not scored: %s", ids[i], why)
    bounded = {i for i, _ in found.bounds}
    scores = []
    for i, row in enumerate(found.logprobs):
        if not row:
            scores.append(_Score(error=found.errors.get(i, "the server gave no score")))
            continue
        of_zero, of_one = row[: len(zero)], row[len(zero) :]
        off_label = 1.0 - math.exp(logsumexp(of_zero)) - math.exp(logsumexp(of_one))
        off_label = min(max(0.0, off_label), 1.0)
        scores.append(_Score(label_probability(of_zero, of_one), off_label, bounded=i in bounded))
    return scores


def _generate(
    sampler: Sampler, encoder: Encoder, prompts: Sequence[Prompt], settings: ScoreSettings, progress: Progress
) -> list[Generation]:
    longest = settings.max_new_tokens + encoder.label_tokens
    params = GenerateParams(max_tokens=longest, stop_tokens=encoder.stop_tokens)
    return sampler.generate([p.tokens for p in prompts], params, progress=progress.update)


def _read(encoder: Encoder, generation: Generation) -> Generated:
    """Parse a generation; a failed one has no content."""
    if generation.error is not None:
        return Generated(finish=generation.finish)
    text, parsed = encoder.read(generation.tokens)
    return Generated(text, parsed.reasoning, parsed.label, generation.finish)
