"""P(label) at the place where the deployed model states it, and what it generates with it.

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

import numpy as np

from core.engines.sampling import GenerateParams, Generation, Sampler
from core.evaluation.predictions import Generated, Predictions
from core.progress import Progress
from core.student.encoding import Encoder, Prompt

log = logging.getLogger(__name__)
NO_SCORE = "the server gave no score"


@dataclass(frozen=True, slots=True)
class ScoreSettings:
    """How much is generated: for reason_first for every text, else for the first `reasoning_rows`."""

    max_new_tokens: int
    reasoning_rows: int = 0


@dataclass(frozen=True, slots=True)
class _Score:
    """One row of Predictions before all are known."""

    probability: float
    off_label_mass: float
    error: str | None = None
    bounded: bool = False


_UNREACHED = _Score(math.nan, 1.0)
"""The reasoning never ended, so there is no label to score."""


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
    if encoder.target == "reason_first":
        generations = _generate(sampler, encoder, prompts, settings, progress)
        generated = [_read(encoder, g) for g in generations]
        reached = [i for i, g in enumerate(generated) if g.reasoning is not None]
        reasoned = [
            (*prompts[i].tokens, *encoder.reason_prefix(generated[i].reasoning or "")) for i in reached
        ]
        at_label = _at_label(sampler, encoder, [ids[i] for i in reached], reasoned, progress)
        found = dict(zip(reached, at_label, strict=True))
        scores = [found.get(i, replace(_UNREACHED, error=g.error)) for i, g in enumerate(generations)]
        return _predictions(ids, scores, prompts, generated)
    scores = _at_label(sampler, encoder, ids, [p.tokens for p in prompts], progress)
    predictions = _predictions(ids, scores, prompts, None)
    if encoder.target == "label_only":
        return predictions
    return _with_generated(sampler, encoder, prompts, predictions, settings, progress)


def add_reasoning(
    sampler: Sampler,
    encoder: Encoder,
    texts: Sequence[str],
    predictions: Predictions,
    settings: ScoreSettings,
    progress: Progress,
) -> Predictions:
    """Generate the reasoning of the first texts, which were scored before."""
    prompts = _prompts(encoder, texts, settings)
    return _with_generated(sampler, encoder, prompts, predictions, settings, progress)


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
    encoder.require_room(reserve)
    return [encoder.prompt_with_room(text, reserve) for text in encoder.tokenizer.encode_texts(list(texts))]


def _at_label(
    sampler: Sampler,
    encoder: Encoder,
    ids: Sequence[str],
    prefixes: Sequence[tuple[int, ...]],
    progress: Progress,
) -> list[_Score]:
    """Score the labels after each prefix, which ends where the label block begins."""
    zero, one = (encoder.choices()[label] for label in encoder.labels)
    scores = sampler.score(list(prefixes), [*zero, *one], progress=progress.update)
    for i, why in scores.errors.items():
        log.warning("row %s was not scored: %s", ids[i], why)
    bounded = {i for i, _ in scores.bounds}
    return [
        _score(row[: len(zero)], row[len(zero) :], bounded=i in bounded)
        if row
        else replace(_UNREACHED, error=scores.errors.get(i, NO_SCORE))
        for i, row in enumerate(scores.logprobs)
    ]


def _score(zero: Sequence[float], one: Sequence[float], *, bounded: bool) -> _Score:
    off_label = 1.0 - math.exp(logsumexp(zero)) - math.exp(logsumexp(one))
    return _Score(label_probability(zero, one), min(max(0.0, off_label), 1.0), bounded=bounded)


def _predictions(
    ids: Sequence[str],
    scores: Sequence[_Score],
    prompts: Sequence[Prompt],
    generated: Sequence[Generated] | None,
) -> Predictions:
    return Predictions.of(
        ids,
        np.array([s.probability for s in scores], dtype=np.float64),
        off_label_mass=np.array([s.off_label_mass for s in scores], dtype=np.float64),
        errors=[s.error for s in scores],
        generated=generated,
        truncated_tokens=np.array([p.cut for p in prompts], dtype=np.int64),
        bounded=np.array([s.bounded for s in scores], dtype=np.bool_),
    )


def _with_generated(
    sampler: Sampler,
    encoder: Encoder,
    prompts: Sequence[Prompt],
    predictions: Predictions,
    settings: ScoreSettings,
    progress: Progress,
) -> Predictions:
    n = min(settings.reasoning_rows, len(predictions))
    generations = _generate(sampler, encoder, prompts[:n], settings, progress) if n else []
    first = tuple(_read(encoder, g) for g in generations)
    return replace(predictions, generated=(*first, *predictions.generated[n:]))


def _generate(
    sampler: Sampler,
    encoder: Encoder,
    prompts: Sequence[Prompt],
    settings: ScoreSettings,
    progress: Progress,
) -> list[Generation]:
    longest = settings.max_new_tokens + encoder.label_tokens
    params = GenerateParams(max_tokens=longest, stop_tokens=encoder.stop_tokens)
    return sampler.generate([p.tokens for p in prompts], params, progress=progress.update)


def _read(encoder: Encoder, generation: Generation) -> Generated:
    """What a generation states; a failed one states nothing."""
    if generation.error is not None:
        return Generated(finish=generation.finish)
    text, said = encoder.read(generation.tokens)
    return Generated(text, said.reasoning, said.label, generation.finish)
