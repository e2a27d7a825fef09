"""Typed rows of rl_history.jsonl, and the summaries of the reinforce and reward stages."""

from __future__ import annotations

from core.jsonio import Record


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
