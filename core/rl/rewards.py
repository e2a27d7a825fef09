"""Rewards, then rollouts (sampled answers with their rewards and advantages), then the rows of both in files.

A reward is a function from an answer and its example to a number from 0 to 1. No built-in reward grows with
the length of an answer.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from core.config import REWARDS, reward
from core.engines import Datum, GenerateParams, Generation, Sampler
from core.jsonio import Record
from core.prompts import TargetWording
from core.records import BINARY, Example, LabelSet
from core.rulebook import MIN_QUOTE, checkable, cited, missing_quotes, quotes
from core.student.conversation import ParsedCompletion, write_answer
from core.student.encoding import Encoder


@dataclass(frozen=True, slots=True)
class Answer:
    """A student's answer: raw and parsed, its length in tokens, and whether it ended with an end of turn."""

    raw: str
    said: ParsedCompletion
    tokens: int
    ended: bool

    @classmethod
    def of(cls, generation: Generation, encoder: Encoder) -> Answer:
        """Decode and parse a generation that did not fail."""
        tokens = generation.tokens
        return cls(*encoder.read(tokens), len(tokens), generation.finish == "stop")

    def row(self) -> dict[str, Any]:
        """Return the answer as it is in rollouts.jsonl and answers.jsonl."""
        return {
            "generated": self.raw,
            "n_tokens": self.tokens,
            "ended": self.ended,
            "pred_label": self.said.label,
        }


@dataclass(frozen=True, slots=True)
class Rubric:
    """The criteria of all rewards, the same for all examples; `weights` by name of reward."""

    wording: TargetWording
    target: str
    rule_ids: tuple[str, ...]
    length_tokens: int
    weights: Mapping[str, float]
    labels: LabelSet = BINARY

    def judge(self, answer: Answer, example: Example) -> dict[str, float]:
        """Return each reward by name, whatever its weight."""
        return {name: REWARDS.get(name).function(answer, example, self) for name in self.weights}

    def total(self, earned: Mapping[str, float]) -> float:
        """Return the weighted sum."""
        return math.fsum(self.weights[name] * value for name, value in earned.items())


@reward("label", weight=1.0)
def label(answer: Answer, example: Example, rubric: Rubric) -> float:
    """The stated label is the gold label; an answer without one is as wrong as one with the other label."""
    return float(answer.said.label == example.label)


@reward("format", weight=0.1)
def in_format(answer: Answer, example: Example, rubric: Rubric) -> float:
    """The answer ended, and is exactly the target's wording of its label and reasoning, except for space."""
    said, words = answer.said, rubric.wording
    if said.label is None or not answer.ended:
        return 0.0
    if rubric.target != "label_only" and not said.reasoning:
        return 0.0
    parts = write_answer(rubric.labels.codes[said.label], said.reasoning or "", words, rubric.target)
    expected = "".join(part.text for part in parts)
    return float("".join(answer.raw.split()) == "".join(expected.split()))


@reward("cites_rule", weight=0.1)
def cites_rule(answer: Answer, example: Example, rubric: Rubric) -> float:
    """The reasoning cites a rule of the rulebook, and no rule that it does not have."""
    found = cited(answer.said.reasoning or "", rubric.rule_ids)
    return float(bool(found) and set(found) <= set(rubric.rule_ids))


@reward("faithful_quote", weight=0.1)
def faithful_quote(answer: Answer, example: Example, rubric: Rubric) -> float:
    """The reasoning quotes the text, and nothing that is not in it."""
    reasoning = answer.said.reasoning or ""
    real = [quote for quote in quotes(reasoning) if checkable(quote, MIN_QUOTE)]
    return float(bool(real) and not missing_quotes(reasoning, example.text, MIN_QUOTE))


@reward("length", weight=0.1)
def length(answer: Answer, example: Example, rubric: Rubric) -> float:
    """1 up to length_tokens, then falling to 0 at twice as many; 0 without a readable label."""
    if answer.said.label is None:
        return 0.0
    over = answer.tokens / rubric.length_tokens - 1
    return min(max(1.0 - over, 0.0), 1.0)


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


def sample_rollouts(
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
            answer = Answer.of(g, encoder)
            earned = rubric.judge(answer, example)
            tokens, logprobs = g.tokens, g.logprobs
            if g.stop is not None:
                tokens, logprobs = (*tokens, g.stop[0]), (*logprobs, g.stop[1])
            group.append(Rollout(example, prompt, tokens, logprobs, answer, earned, rubric.total(earned)))
        if (advantages := group_advantages([r.reward for r in group], way)) is not None:
            group = [replace(r, advantage=a) for r, a in zip(group, advantages, strict=True)]
        groups.append(tuple(group))
    return Sampled(tuple(groups), sum(g.finish == "error" for g in answers))


def group_advantages(rewards: Sequence[float], way: Way) -> list[float] | None:
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


def policy_data(
    rollouts: Sequence[Rollout], drift: Sequence[Sequence[float]] | None, kl: float
) -> list[Datum]:
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


def step_figures(sampled: Sampled, drift: Sequence[Sequence[float]] | None) -> dict[str, Any]:
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


def rollout_row(rollout: Rollout) -> dict[str, Any]:
    """Return an answer as it is in rollouts.jsonl."""
    return {
        "example_id": rollout.example.id,
        "input_text": rollout.example.text[:300],
        "true_label": rollout.example.label,
        **rollout.answer.row(),
        "correct": rollout.answer.said.label == rollout.example.label,
        "rewards": dict(rollout.earned),
        "reward": rollout.reward,
        "advantage": rollout.advantage,
    }


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


class RLStep(Record):
    """The fields of a row of rl_history.jsonl that are read. Steps count from 1; None is undefined."""

    step: int
    n_rollouts: int
    failed_rollouts: int
    """Answers that failed on the server."""
    n_groups: int
    groups_skipped: int
    """Groups whose answers all have the same reward, from which there is nothing to learn."""
    updates: int
    reward_mean: float | None
    batch_acc: float | None
    """The share of sampled answers with the gold label."""
    invalid_rate: float | None
    answer_tokens: float | None
    kl_logprob_diff_mean: float | None
    """How much likelier a sampled token is than at the start, in nats."""
    loss: float | None = None
    reward_std: float | None = None
    learning_rate: float | None = None


class ValRewards(Record):
    """The summary of the reward stage: the rewards of a checkpoint's greedy answers on val."""

    rows: int
    failed_rows: int
    reward_mean: float | None
    rewards: dict[str, float]
    """The mean of each reward, before weights."""


class RLSegmentSummary(Record):
    """The fields of the summary of a reinforce stage that are read: counts over the steps of one segment."""

    rollouts: int
    failed_rollouts: int
    groups: int
    groups_skipped: int
    steps_without_update: int
    seconds_by_step: tuple[float, ...]
