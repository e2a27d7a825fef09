"""Choices that share all but their last token are read off one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChoicePlan:
    """Which passes score which choices."""

    heads: tuple[tuple[int, ...], ...]
    """Token sequences to run after a prompt; none begins another."""
    members: tuple[tuple[int, ...], ...]
    """For each head, the choices that it scores."""
    steps: tuple[tuple[tuple[int, int], ...], ...]
    """For each choice, its tokens as (places after the prompt, token)."""
    tokens: tuple[int, ...]
    """Every token of every choice once."""


def choice_plan(choices: Sequence[Sequence[int]]) -> ChoicePlan:
    """Plan the passes: one for each longest distinct sequence of all tokens but the last."""
    heads: list[tuple[int, ...]] = []
    for head in sorted({tuple(choice[:-1]) for choice in choices}, key=len, reverse=True):
        if not any(longer[: len(head)] == head for longer in heads):
            heads.append(head)
    members: list[list[int]] = [[] for _ in heads]
    for i, choice in enumerate(choices):
        head = tuple(choice[:-1])
        members[next(j for j, longer in enumerate(heads) if longer[: len(head)] == head)].append(i)
    return ChoicePlan(
        heads=tuple(heads),
        members=tuple(tuple(group) for group in members),
        steps=tuple(tuple(enumerate(choice)) for choice in choices),
        tokens=tuple(sorted({token for choice in choices for token in choice})),
    )
