"""Label probabilities at the place where the deployed model states the label, and its generated reasoning.

The label block is scored directly after the prompt, or, for reason_first, after the generated reasoning. A
choice is the whole token sequence from the beginning of the label block through the label.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from core.engines import GenerateParams, Generation, Sampler
from core.evaluation.predictions import Generated, Predictions
from core.progress import Progress
from core.student.encoding import Encoder, Prompt

log = logging.getLogger(__name__)


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
    prefixes, generated = dict(enumerate(p.tokens for p in prompts)), None
    errors: list[str | None] = [None] * len(ids)
    if encoder.target == "reason_first":
        generations = _generate(sampler, encoder, prompts, settings, progress)
        errors = [g.error for g in generations]
        generated = [_read(encoder, g) for g in generations]
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
    generated = settings.max_new_tokens if encoder.target == "reason_first" else 0
    return encoder.prompts(texts, encoder.label_tokens + generated)


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
