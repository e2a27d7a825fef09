"""A step's answers: sampled from the present weights in groups, rewarded, and made into data to train on."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from core.engines.base import Datum
from core.engines.sampling import GenerateParams, Generation, Sampler
from core.records import Example
from core.rl.advantages import Way, less_kl, mean_of, of_group
from core.rl.rewards import Answer, Rubric

Report = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Rollout:
    """One answer: its prompt, the tokens that were chosen, the end of turn too, and what they earned."""

    example: Example
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    """Of the tokens when they were sampled (nats)."""
    answer: Answer
    earned: Mapping[str, float]
    reward: float
    advantage: float | None = None
    """None where its group has no variance."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """All answers of a step by group, and how many a server failed to give."""

    groups: tuple[tuple[Rollout, ...], ...]
    failed: int

    @property
    def rollouts(self) -> list[Rollout]:
        """All of them, group by group."""
        return [rollout for group in self.groups for rollout in group]

    @property
    def trained(self) -> list[Rollout]:
        """Those of groups with variance, as far as they have tokens."""
        return [r for r in self.rollouts if r.advantage is not None and r.tokens]

    @property
    def skipped(self) -> int:
        """Groups without variance."""
        return sum(all(r.advantage is None for r in group) for group in self.groups)


@dataclass(frozen=True, slots=True)
class Asking:
    """How a step asks: texts with their prompts, answers to each, and how they are judged."""

    examples: Sequence[Example]
    prompts: Sequence[tuple[int, ...]]
    group_size: int
    params: GenerateParams
    rubric: Rubric
    decode: Callable[[Sequence[int]], str]
    way: Way


def sample(sampler: Sampler, asking: Asking, report: Report | None = None) -> Sampled:
    """Ask for every group at once; answers that failed are left out of their groups and counted."""
    size = asking.group_size
    asked = [prompt for prompt in asking.prompts for _ in range(size)]
    said = _with_logprobs(sampler, asked, sampler.generate(asked, asking.params, progress=report))
    groups = []
    for i, (example, prompt) in enumerate(zip(asking.examples, asking.prompts, strict=True)):
        given = [g for g in said[i * size : (i + 1) * size] if g.finish != "error"]
        groups.append(_compared([_rollout(example, prompt, g, asking) for g in given], asking.way))
    return Sampled(tuple(groups), sum(g.finish == "error" for g in said))


def drifts(reference: Sampler, rollouts: Sequence[Rollout]) -> list[list[float]]:
    """How much likelier each token was when it was sampled than it is to the reference (nats)."""
    found = reference.logprobs([(*r.prompt, *r.tokens) for r in rollouts])
    return [
        [now - then for now, then in zip(r.logprobs, row[len(r.prompt) - 1 :], strict=True)]
        for r, row in zip(rollouts, found, strict=True)
    ]


def data(rollouts: Sequence[Rollout], drift: Sequence[Sequence[float]] | None, kl: float) -> list[Datum]:
    """What to train on: each token of all answers weighs the same, so that the loss is a mean over tokens."""
    advantages: list[list[float]] = [[r.advantage or 0.0] * len(r.tokens) for r in rollouts]
    if drift is not None:
        advantages = less_kl(advantages, drift, kl)
    weight = 1.0 / max(sum(len(r.tokens) for r in rollouts), 1)
    return [_datum(r, row, weight) for r, row in zip(rollouts, advantages, strict=True)]


def figures(sampled: Sampled, drift: Sequence[Sequence[float]] | None) -> dict[str, Any]:
    """What is written of a step's answers. What nobody measured, or no answer has, is null."""
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
        "groups_skipped": sampled.skipped,
        "n_datums": len(sampled.trained),
    }


def row(rollout: Rollout) -> dict[str, Any]:
    """An answer as rollouts.jsonl has it."""
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


def _with_logprobs(
    sampler: Sampler, prompts: Sequence[tuple[int, ...]], said: Sequence[Generation]
) -> list[Generation]:
    """Some servers give no log-probabilities of what they sampled: these are asked for."""
    out = list(said)
    lacking = [i for i, g in enumerate(said) if len(g.logprobs) != len(g.tokens)]
    found = sampler.logprobs([(*prompts[i], *said[i].tokens) for i in lacking]) if lacking else []
    for i, values in zip(lacking, found, strict=True):
        out[i] = replace(said[i], logprobs=tuple(values[len(prompts[i]) - 1 :]))
    return out


def _rollout(example: Example, prompt: tuple[int, ...], said: Generation, asking: Asking) -> Rollout:
    answer = asking.rubric.read(asking.decode(said.tokens), len(said.tokens), ended=said.finish == "stop")
    earned = asking.rubric.judge(answer, example)
    end = [said.stop] if said.stop is not None else []
    return Rollout(
        example,
        prompt,
        tokens=(*said.tokens, *(token for token, _ in end)),
        logprobs=(*said.logprobs, *(logprob for _, logprob in end)),
        answer=answer,
        earned=earned,
        reward=asking.rubric.total(earned),
    )


def _compared(group: Sequence[Rollout], way: Way) -> tuple[Rollout, ...]:
    found = of_group([r.reward for r in group], way)
    if found is None:
        return tuple(group)
    return tuple(replace(r, advantage=advantage) for r, advantage in zip(group, found, strict=True))


def _datum(rollout: Rollout, advantages: Sequence[float], weight: float) -> Datum:
    whole = (*rollout.prompt, *rollout.tokens)
    before = len(rollout.prompt) - 1
    nothing = (0.0,) * before
    return Datum(
        whole[:-1],
        whole[1:],
        weights=(*nothing, *(weight,) * len(rollout.tokens)),
        logprobs=(*nothing, *rollout.logprobs),
        advantages=(*nothing, *advantages),
    )


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None
