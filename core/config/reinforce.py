"""`reinforce:`: reinforcement learning of a student from rewards for its own answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field

from core.config.base import ConfigSection, NotInKey
from core.config.measure import EarlyStopping
from core.registry import Registry


@dataclass(frozen=True, slots=True)
class Reward:
    """A registered reward: a function from an answer, its example and the rubric to a number from 0 to 1 (see
    core.rl.rewards), and its weight where the config gives none."""

    function: Callable[..., float]
    weight: float


REWARDS: Registry[Reward] = Registry("reward", "understudy.rewards", modules=("core.rl.rewards",))
"""The rewards by name."""
_Function = TypeVar("_Function", bound=Callable[..., float])


def reward(name: str, *, weight: float = 0.0) -> Callable[[_Function], _Function]:
    """Register a function as a reward.

    >>> @reward("is_polite", weight=0.1)
    ... def is_polite(answer, example, rubric):
    ...     return float("please" in answer.raw)
    """

    def register(function: _Function) -> _Function:
        REWARDS.register(name, Reward(function, weight), defined=function)
        return function

    return register


def _with_defaults(given: Mapping[str, float]) -> Mapping[str, float]:
    """The weights of all built-in rewards, and of those from elsewhere that the config names."""
    weights = {name: given.get(name, REWARDS.get(name).weight) for name in REWARDS.built_in()}
    weights |= {name: weight for name, weight in given.items() if REWARDS.get(name)}
    if not any(weights.values()):
        raise ValueError("all rewards are 0: there is nothing to learn from")
    return weights


RewardWeights = Annotated[Mapping[str, Annotated[float, Field(ge=0)]], AfterValidator(_with_defaults)]
"""How much each reward counts; 0 only reports it."""


def rewards_code(weights: Mapping[str, float]) -> dict[str, Any]:
    """Return what identifies the code of rewards that are not built in, for cache keys."""
    code = {name: found for name in weights if (found := REWARDS.provenance(name))}
    return {"rewards_code": code} if code else {}


class ReinforceConfig(ConfigSection):
    """Group relative policy optimization (Shao et al. 2024, DeepSeekMath) from a student or the base model.

    Each step samples a group of answers to each of a few texts, rewards them, and makes the better ones
    of each group likelier.
    """

    epochs: float = Field(1.0, gt=0)
    """Passes over the train texts; a part of one is allowed."""
    steps: int | None = Field(None, ge=1)
    """Steps, instead of epochs."""
    batch_size: int = Field(8, ge=1)
    """Texts per step."""
    batches: Literal["stratified", "random"] = "stratified"
    """stratified: every step has the classes in the ratio of all texts, as nearly as possible."""
    group_size: int = Field(8, ge=2)
    """Answers to each text, which are compared with each other."""
    temperature: float = Field(1.0, gt=0)
    """Of sampling. The loss takes log-probabilities at 1, so others bias it."""
    max_new_tokens: int = Field(256, ge=1)
    """Longest answer, in tokens."""
    rewards: RewardWeights = {}
    """How much each reward counts, by name; 0 only reports it. See core.rl.rewards."""
    length_tokens: int = Field(128, ge=1)
    """Tokens of an answer up to which the reward `length` is whole."""
    advantages: Literal["normalised", "centred"] = "normalised"
    """A reward minus its group's mean; normalised: divided by its group's standard deviation too."""
    loss: Literal["importance_sampling", "ppo", "cispo"] = "ppo"
    """The policy gradient; see core.engines.Loss."""
    clip_low: float = Field(0.8, ge=0, le=1)
    """ppo, cispo: least ratio of an answer's probability now to that when it was sampled."""
    clip_high: float = Field(1.2, ge=1)
    """ppo, cispo: largest ratio."""
    substeps: int = Field(1, ge=1)
    """Updates by one step's answers; ratios leave 1 from the second on."""
    kl: float = Field(0.0, ge=0)
    """Penalty on each token's advantage for being likelier than at the start; 0 needs no reference."""
    learning_rate: float = Field(1e-5, gt=0)
    """Largest learning rate; the optimizer's other settings are student.adam."""
    schedule: Literal["linear", "constant"] = "constant"
    """linear: falls from the first step after the warm-up to min_lr_ratio at the last."""
    min_lr_ratio: float = Field(0.1, ge=0, le=1)
    """linear: learning rate of the last step, as a share of the largest."""
    warmup_steps: int = Field(0, ge=0)
    """Steps in which the learning rate rises from nearly 0 to the largest."""
    keep_optimiser: bool = False
    """Begin with the student's optimizer instead of a new one."""
    interval: int = Field(10, ge=1)
    """Steps between evaluations on val; the start and the last step are always evaluated."""
    early_stopping: EarlyStopping | None = None
    """Optional early stopping, by evaluation.metric on val."""
    reward_rows: int = Field(64, ge=1)
    """Rows of val, stratified, whose greedy answers are rewarded at each evaluation."""
    save_every: Annotated[int, NotInKey("segments are keyed by their own steps")] = Field(0, ge=0)
    """Also save every so many steps between evaluations; 0 saves at evaluations only."""
    rollouts_kept: int = Field(8, ge=0)
    """Answers of each step that are left in rollouts.jsonl, whole groups first."""
