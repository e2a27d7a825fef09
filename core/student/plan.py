"""Plan a training run before step 0: the examples and the learning rate of each step, and the segments."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from core import jsonio
from core.config.reinforce import ReinforceConfig
from core.config.student import StudentConfig
from core.errors import DataError

Recipe = StudentConfig | ReinforceConfig
"""A section with the settings of steps, batches and learning rates."""


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One optimizer step, counted from 0, of an epoch, counted from 1; `rows` index the examples."""

    step: int
    epoch: int
    rows: tuple[int, ...]
    learning_rate: float
    batch_hash: str


@dataclass(frozen=True, slots=True)
class PlannedSegment:
    """The steps [start, stop) between two saved states, and whether an evaluation follows."""

    start: int
    stop: int
    evaluate: bool


def total_steps(config: Recipe, n: int) -> int:
    """Return `steps`, or whole batches an epoch times `epochs`, at least one."""
    if config.steps is not None:
        return config.steps
    epochs = config.epochs if config.epochs is not None else 3.0
    return max(1, round(math.ceil(n / config.batch_size) * epochs))


def learning_rate(config: Recipe, step: int, total: int) -> float:
    """Return the rate of a step: linear warm-up, then constant or linear to min_lr_ratio."""
    warmup = min(config.warmup_steps, total)
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    if config.schedule == "constant":
        return config.learning_rate
    done = (step - warmup) / max(total - warmup - 1, 1)
    return config.learning_rate * (1 - (1 - config.min_lr_ratio) * done)


def content(steps: Sequence[PlannedStep]) -> dict[str, str]:
    """Return the part of a segment's key that its steps decide; the rates are readable."""
    rates = [s.learning_rate for s in steps]
    return {
        "batches": jsonio.digest([s.batch_hash for s in steps]),
        "learning_rates": f"{rates[0]:g} to {rates[-1]:g} ({jsonio.digest(rates)[:16]})",
    }


def plan(config: Recipe, seed: int, labels: Sequence[int], hashes: Sequence[str]) -> list[PlannedStep]:
    """Return every step of a training run, in an order by hashes of seed, epoch and row.

    Raises DataError without examples.
    """
    if not labels:
        raise DataError("no example is left to train on; see the encode stage's counts")
    total = total_steps(config, len(labels))
    batches: list[tuple[int, tuple[int, ...]]] = []
    epoch = 0
    while len(batches) < total:
        digests = [hashlib.sha256(f"{seed}:{epoch}:{row}".encode()).digest() for row in range(len(labels))]
        order = sorted(range(len(labels)), key=digests.__getitem__)
        if config.batches == "stratified":
            classes = sorted(set(labels), reverse=True)
            order = interleave([[r for r in order if labels[r] == label] for label in classes])
        epoch += 1
        starts = range(0, len(order), config.batch_size)
        batches += [(epoch, tuple(order[i : i + config.batch_size])) for i in starts]
    return [
        PlannedStep(s, epoch, rows, learning_rate(config, s, total), jsonio.digest([hashes[r] for r in rows]))
        for s, (epoch, rows) in enumerate(batches[:total])
    ]


def interleave(classes: Sequence[Sequence[int]]) -> list[int]:
    """Merge so that every prefix has about each class's share: row i of n belongs at (i + 1/2) / n."""
    placed = [((i + 0.5) / len(rows), c, row) for c, rows in enumerate(classes) for i, row in enumerate(rows)]
    return [row for _, _, row in sorted(placed)]


def segments(total: int, interval: int, save_every: int) -> list[PlannedSegment]:
    """Cut the steps at every evaluation and every save; the last step is always evaluated."""
    evaluations = {*range(interval, total, interval), total}
    saves = set(range(save_every, total, save_every)) if save_every else set()
    stops = sorted(evaluations | saves)
    return [
        PlannedSegment(start, stop, stop in evaluations)
        for start, stop in zip([0, *stops[:-1]], stops, strict=True)
    ]
