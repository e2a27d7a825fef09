"""A step's answers: sampled in groups, rewarded, and turned into training data."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from core.engines.base import Datum
from core.engines.sampling import GenerateParams, Sampler
from core.records import Example
from core.rl.rewards import Answer, Rubric
from core.student.encoding import Encoder

Way = Literal["normalised", "centred"]
LEAST_DEVIATION = 1e-6
"""A smaller standard deviation of a group's rewards is rounding."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """One answer: its prompt, the sampled tokens with the end of turn and their logprobs (nats), its rewards,
    and its advantage, which is None if its group has no variance."""

    example: Example
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    answer: Answer
    earned: Mapping[str, float]
    reward: float
    advantage: float | None = None


@dataclass(frozen=True, slots=True)
class Sampled:
    """All answers of a step by group, and the number that a server failed to give."""

    groups: tuple[tuple[Rollout, ...], ...]
    failed: int

    @property
    def rollouts(self) -> list[Rollout]:
        return [rollout for group in self.groups for rollout in group]

    @property
    def trained(self) -> list[Rollout]:
        """The answers with tokens of groups with variance."""
        return [r for r in self.rollouts if r.advantage is not None and r.tokens]


def sample(
    sampler: Sampler,
    encoder: Encoder,
    rubric: Rubric,
    examples: Sequence[Example],
    params: GenerateParams,
    size: int,
    way: Way,
) -> Sampled:
    """Sample `size` answers to each text at once; failed ones are left out of their group and counted."""
    prompts = [p.tokens for p in encoder.prompts([e.text for e in examples], params.max_tokens)]
    asked = [prompt for prompt in prompts for _ in range(size)]
    answers = list(sampler.generate(asked, params))
    # Some servers give no log-probabilities of what they sampled: these are requested separately.
    lacking = [i for i, g in enumerate(answers) if len(g.logprobs) != len(g.tokens)]
    found = sampler.logprobs([(*asked[i], *answers[i].tokens) for i in lacking]) if lacking else []
    for i, values in zip(lacking, found, strict=True):
        answers[i] = replace(answers[i], logprobs=tuple(values[len(asked[i]) - 1 :]))
    groups = []
    for i, (example, prompt) in enumerate(zip(examples, prompts, strict=True)):
        group = []
        for g in answers[i * size : (i + 1) * size]:
            if g.finish == "error":
                continue
            answer = Answer(*encoder.read(g.tokens), len(g.tokens), g.finish == "stop")
            earned = rubric.judge(answer, example)
            tokens, logprobs = g.tokens, g.logprobs
            if g.stop is not None:
                tokens, logprobs = (*tokens, g.stop[0]), (*logprobs, g.stop[1])
            group.append(Rollout(example, prompt, tokens, logprobs, answer, earned, rubric.total(earned)))
        if (advantages := of_group([r.reward for r in group], way)) is not None:
            group = [replace(r, advantage=a) for r, a in zip(group, advantages, strict=True)]
        groups.append(tuple(group))
    return Sampled(tuple(groups), sum(g.finish == "error" for g in answers))


def of_group(rewards: Sequence[float], way: Way) -> list[float] | None:
    """Return each answer's advantage over its group (Shao et al. 2024, DeepSeekMath); None without variance.

    centred: minus the mean; normalised: divided by the population's standard deviation too.
    """
    if len(rewards) < 2:
        return None
    mean, deviation = statistics.fmean(rewards), statistics.pstdev(rewards)
    if deviation < LEAST_DEVIATION:
        return None
    scale = deviation if way == "normalised" else 1.0
    return [(reward - mean) / scale for reward in rewards]


def drifts(reference: Sampler, rollouts: Sequence[Rollout]) -> list[list[float]]:
    """Return how much likelier each token was when it was sampled than under the reference (nats)."""
    found = reference.logprobs([(*r.prompt, *r.tokens) for r in rollouts])
    return [
        [now - then for now, then in zip(r.logprobs, row[len(r.prompt) - 1 :], strict=True)]
        for r, row in zip(rollouts, found, strict=True)
    ]


def less_kl(
    advantages: Sequence[Sequence[float]], drifts: Sequence[Sequence[float]], kl: float
) -> list[list[float]]:
    """Return token advantages minus a penalty on drift, centered so that it pushes no batch as a whole.

    Drift is how much likelier a token is than at the start (nats).
    """
    mean = mean_of(drifts)
    return [
        [advantage + kl * (mean - drift) for advantage, drift in zip(row, of, strict=True)]
        for row, of in zip(advantages, drifts, strict=True)
    ]


def mean_of(rows: Sequence[Sequence[float]]) -> float:
    """Return the mean over all values of all rows; 0 if there is none."""
    count = sum(map(len, rows))
    return math.fsum(value for row in rows for value in row) / count if count else 0.0


def data(rollouts: Sequence[Rollout], drift: Sequence[Sequence[float]] | None, kl: float) -> list[Datum]:
    """Return the training data; the loss is the mean over all tokens of all answers."""
    advantages: list[list[float]] = [[r.advantage or 0.0] * len(r.tokens) for r in rollouts]
    if drift is not None:
        advantages = less_kl(advantages, drift, kl)
    weight = 1.0 / max(sum(len(r.tokens) for r in rollouts), 1)
    out = []
    for r, row in zip(rollouts, advantages, strict=True):
        whole, nothing = (*r.prompt, *r.tokens), (0.0,) * (len(r.prompt) - 1)
        weights = (*nothing, *(weight,) * len(r.tokens))
        out.append(Datum(whole[:-1], whole[1:], weights, (*nothing, *r.logprobs), (*nothing, *row)))
    return out


def figures(sampled: Sampled, drift: Sequence[Sequence[float]] | None) -> dict[str, Any]:
    """Return what is written of a step's answers; null is not measured, or no answer has it."""
    all_ = sampled.rollouts
    rewards = [r.reward for r in all_]
    names = list(all_[0].earned) if all_ else []
    return {
        "reward_mean": _mean(rewards),
        "reward_std": statistics.pstdev(rewards) if rewards else None,
        **{f"reward_{name}": _mean([r.earned[name] for r in all_]) for name in names},
        "batch_acc": _mean([float(r.answer.said.label == r.example.label) for r in all_]),
        "invalid_rate": _mean([float(r.answer.said.label is None) for r in all_]),
        "unended_rate": _mean([float(not r.answer.ended) for r in all_]),
        "answer_tokens": _mean([float(r.answer.tokens) for r in all_]),
        "kl_logprob_diff_mean": mean_of(drift) if drift else None,
        "n_rollouts": len(all_),
        "failed_rollouts": sampled.failed,
        "n_groups": len(sampled.groups),
        "groups_skipped": sum(all(r.advantage is None for r in group) for group in sampled.groups),
        "n_datums": len(sampled.trained),
    }


def row(rollout: Rollout) -> dict[str, Any]:
    """Return an answer as it is in rollouts.jsonl."""
    return {
        "example_id": rollout.example.id,
        "input_text": rollout.example.text[:300],
        "true_label": rollout.example.label,
        "generated": rollout.answer.raw,
        "n_tokens": rollout.answer.tokens,
        "ended": rollout.answer.ended,
        "pred_label": rollout.answer.said.label,
        "correct": rollout.answer.said.label == rollout.example.label,
        "rewards": dict(rollout.earned),
        "reward": rollout.reward,
        "advantage": rollout.advantage,
    }


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None
