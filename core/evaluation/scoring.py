"""P(label) at the place where the deployed model says it, and what it says beside it.

The label block is scored directly after the prompt, or, for reason_first, after the reasoning
that the model itself generated; never after a placeholder or the gold reasoning. A choice is the
whole token sequence from the beginning of the label block through the label, so the mass outside
both labels is the probability that the model would not have answered in the form it learnt.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from core.progress import Progress
from core.records import Example, ScoredExample
from core.student.encoding import Encoder, Prompt
from core.student.engine import GenerateParams, Generation, Sampler

log = logging.getLogger(__name__)

INVALID_OUTSIDE = 0.5


@dataclass(frozen=True, slots=True)
class ScoreSettings:
    """How much is generated: for reason_first every row, else the first `reasoning_rows`."""

    max_new_tokens: int
    reasoning_rows: int = 0


def score_examples(
    sampler: Sampler,
    encoder: Encoder,
    examples: Sequence[Example],
    settings: ScoreSettings,
    progress: Progress,
) -> list[ScoredExample]:
    """Score every example, in order."""
    prompts = _prompts(encoder, examples, settings)
    if encoder.target == "reason_first":
        return _after_reasoning(sampler, encoder, examples, prompts, settings, progress)
    rows = _at_label(sampler, encoder, examples, prompts, [()] * len(prompts), progress)
    if encoder.target == "label_only":
        return rows
    return _say(sampler, encoder, prompts, rows, settings, progress)


def add_reasoning(
    sampler: Sampler,
    encoder: Encoder,
    examples: Sequence[Example],
    rows: Sequence[ScoredExample],
    settings: ScoreSettings,
    progress: Progress,
) -> list[ScoredExample]:
    """Generate the reasoning of the first rows of examples that were scored before."""
    return _say(sampler, encoder, _prompts(encoder, examples, settings), rows, settings, progress)


def _say(
    sampler: Sampler,
    encoder: Encoder,
    prompts: Sequence[Prompt],
    rows: Sequence[ScoredExample],
    settings: ScoreSettings,
    progress: Progress,
) -> list[ScoredExample]:
    n = min(settings.reasoning_rows, len(rows))
    generations = _generate(sampler, encoder, prompts[:n], settings, progress) if n else []
    said = [_with_said(row, encoder, g) for row, g in zip(rows[:n], generations, strict=True)]
    return [*said, *rows[n:]]


def _prompts(encoder: Encoder, examples: Sequence[Example], settings: ScoreSettings) -> list[Prompt]:
    reserve = encoder.label_tokens
    if encoder.target == "reason_first":
        reserve += settings.max_new_tokens
    encoder.require_room(reserve)
    texts = encoder.tokenizer.encode_texts([e.text for e in examples])
    return [encoder.prompt_with_room(text, reserve) for text in texts]


def _at_label(
    sampler: Sampler,
    encoder: Encoder,
    examples: Sequence[Example],
    prompts: Sequence[Prompt],
    reasoned: Sequence[tuple[int, ...]],
    progress: Progress,
) -> list[ScoredExample]:
    choices = encoder.choices()
    flat = [c for label in (0, 1) for c in choices[label]]
    n_zero = len(choices[0])
    scores = sampler.score(
        [(*p.tokens, *r) for p, r in zip(prompts, reasoned, strict=True)], flat, progress=progress.update
    )
    for i, why in scores.errors.items():
        log.warning("row %s was not scored: %s", examples[i].id, why)
    bounded = {i for i, _ in scores.bounds}
    return [
        replace(_scored(example, prompt, row[:n_zero], row[n_zero:]), bounded=i in bounded)
        if row
        else _unreached(example, prompt, scores.errors.get(i, "the server gave no score"))
        for i, (example, prompt, row) in enumerate(zip(examples, prompts, scores.logprobs, strict=True))
    ]


def _scored(example: Example, prompt: Prompt, zero: Sequence[float], one: Sequence[float]) -> ScoredExample:
    outside = 1.0 - math.exp(logsumexp(zero)) - math.exp(logsumexp(one))
    outside = min(max(0.0, outside), 1.0)
    return ScoredExample(
        example_id=example.id,
        gold=example.label,
        probability=label_probability(zero, one),
        outside=outside,
        valid=outside <= INVALID_OUTSIDE,
        truncated_tokens=prompt.cut,
    )


def label_probability(zero: Sequence[float], one: Sequence[float]) -> float | None:
    """P(1) among both labels, from the log-probabilities (nats) of each label's surface forms.

    None where neither has any mass that a float can hold.
    """
    log_zero, log_one = logsumexp(zero), logsumexp(one)
    if log_zero == log_one == -math.inf:
        return None
    return 1.0 / (1.0 + math.exp(min(log_zero - log_one, 700.0)))


def logsumexp(values: Sequence[float]) -> float:
    """log of the sum of exponentials, without overflow."""
    top = max(values)
    if top == -math.inf:
        return top
    return top + math.log(sum(math.exp(v - top) for v in values))


def _after_reasoning(
    sampler: Sampler,
    encoder: Encoder,
    examples: Sequence[Example],
    prompts: Sequence[Prompt],
    settings: ScoreSettings,
    progress: Progress,
) -> list[ScoredExample]:
    generations = _generate(sampler, encoder, prompts, settings, progress)
    said = [encoder.read(g.tokens)[1] for g in generations]
    reached = [i for i, s in enumerate(said) if s.reasoning is not None]
    reasoned = [encoder.reason_prefix(said[i].reasoning or "") for i in reached]
    scored = _at_label(
        sampler, encoder, [examples[i] for i in reached], [prompts[i] for i in reached], reasoned, progress
    )
    rows = dict(zip(reached, scored, strict=True))
    return [
        _with_said(rows.get(i) or _unreached(examples[i], prompts[i], g.error), encoder, g)
        for i, g in enumerate(generations)
    ]


def _unreached(example: Example, prompt: Prompt, error: str | None) -> ScoredExample:
    """A row whose reasoning never ended, or that failed with `error`: there is no label to read."""
    return ScoredExample(
        example.id,
        example.label,
        probability=None,
        outside=1.0,
        valid=False,
        truncated_tokens=prompt.cut,
        error=error,
    )


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


def _with_said(row: ScoredExample, encoder: Encoder, generation: Generation) -> ScoredExample:
    if generation.error is not None:
        return replace(row, finish=generation.finish)
    raw, said = encoder.read(generation.tokens)
    return replace(
        row, raw_output=raw, reasoning=said.reasoning, emitted_label=said.label, finish=generation.finish
    )
