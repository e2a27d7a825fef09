"""The train stage: plan a run's steps and segments, and train one segment.

The plan, made before step 0, has the examples and the learning rate of each step. A segment leads from a
saved state through its steps to the next saved state.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core import durable, jsonio
from core.config import (
    AdamConfig,
    Config,
    ConfigSection,
    EngineChoice,
    LoraConfig,
    ReinforceConfig,
    StudentConfig,
)
from core.engines import AdamParams, Checkpoint, Datum, Engine, LoraSpec, PendingResult, SaveLabel, Session
from core.errors import DataError
from core.jsonio import Record
from core.progress import NotedProgress
from core.stage import StageIO, stage

_IN_FLIGHT = 2
STEPS_FILE = "steps.jsonl"
CHECKPOINT_FILE = "checkpoint.json"
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


@dataclass(frozen=True, slots=True)
class SegmentWork:
    """The steps of one segment, of `total` in the run; `data` returns the examples that they index."""

    steps: Sequence[PlannedStep]
    total: int
    data: Callable[[], Sequence[Datum]] = tuple

    @property
    def at(self) -> dict[str, int]:
        """The values of the placeholders in its stage's slot and label."""
        return {"first": self.steps[0].step + 1, "stop": self.steps[-1].step + 1, "total": self.total}


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


def steps_content(steps: Sequence[PlannedStep]) -> dict[str, str]:
    """Return the part of a segment's key that its steps decide; the rates are readable."""
    rates = [s.learning_rate for s in steps]
    return {
        "batches": jsonio.digest([s.batch_hash for s in steps]),
        "learning_rates": f"{rates[0]:g} to {rates[-1]:g} ({jsonio.digest(rates)[:16]})",
    }


def plan_steps(config: Recipe, seed: int, labels: Sequence[int], hashes: Sequence[str]) -> list[PlannedStep]:
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


def plan_segments(total: int, interval: int, save_every: int) -> list[PlannedSegment]:
    """Cut the steps at every evaluation and every save; the last step is always evaluated."""
    evaluations = {*range(interval, total, interval), total}
    saves = set(range(save_every, total, save_every)) if save_every else set()
    stops = sorted(evaluations | saves)
    return [
        PlannedSegment(start, stop, stop in evaluations)
        for start, stop in zip([0, *stops[:-1]], stops, strict=True)
    ]


class SavedCheckpoint(Record):
    """The content of checkpoint.json: the number of steps taken, and a digest of the weights."""

    step: int
    digest: str


class TrainStep(Record):
    """What is read of a row of steps.jsonl; steps count from 0."""

    step: int
    loss: float
    learning_rate: float | None = None
    grad_norm: float | None = None
    tokens: int | None = None


class SegmentSettings(ConfigSection):
    """The part of a config that decides a segment, besides its parent and its batches."""

    engine: EngineChoice
    seed: int
    lora: LoraConfig
    adam: AdamConfig
    loss: str = "cross_entropy"

    @classmethod
    def of(cls, config: Config) -> SegmentSettings:
        student = config.student
        return cls(engine=student.engine, seed=config.training_seed, lora=student.lora, adam=student.adam)


@dataclass(slots=True)
class LiveSession:
    """At most one live session a process, so that consecutive segments need not reload.

    It is kept for the next segment only after the manifest of its own is written.
    """

    session: Session | None = None
    pending: Session | None = None

    def take(self, engine: Engine, lora: LoraSpec, parent: Checkpoint | None) -> Session:
        """Return the live session if its tip is exactly `parent`, or open one from its state."""
        session, self.session = self.session, None
        if session is not None:
            tip = session.tip
            if parent and tip and (tip.digest, tip.step) == (parent.digest, parent.step):
                return session
            session.close()
        return engine.open(lora, parent.state if parent else None)

    def keep(self) -> None:
        self.session, self.pending = self.pending, None

    def close(self) -> None:
        for session in (self.session, self.pending):
            if session is not None:
                session.close()
        self.session = self.pending = None


@contextmanager
def training(
    io: StageIO, work: SegmentWork, open_session: Callable[[], Session]
) -> Iterator[tuple[Session, StageIO]]:
    """Open a segment's session; report its progress and its waits for a server, through the `io` it yields.

    If the block fails, all live sessions are closed.
    """
    progress, live = NotedProgress(io.progress, work.steps[0].step, work.total), io.context.live
    with io.context.engine.report_waits(progress.note):
        live.pending = session = open_session()
        try:
            yield session, replace(io, progress=progress)
        except BaseException:
            live.close()
            raise


def save(session: Session, io: StageIO, steps: Sequence[PlannedStep]) -> dict[str, Any]:
    """Save the state after a segment's steps; return what its summary states about the checkpoint."""
    saved = session.save(io.out, step=steps[-1].step + 1, label=SaveLabel(io.key, io.out.name))
    durable.failpoint(durable.STATE_SAVED, str(saved.step))
    SavedCheckpoint(step=saved.step, digest=saved.digest).write(io.out / CHECKPOINT_FILE)
    found: dict[str, Any] = {
        "step": saved.step,
        "checkpoint_digest": saved.digest,
        "base_digest": saved.engine.base_digest,
        "fingerprint": io.context.engine.fingerprint,
    }
    if io.context.capabilities.remote:
        found |= {"state_path": saved.state.location, "sampler_path": saved.sampler.location}
    return found


@stage(
    "train",
    version=1,
    inputs=("parent?",),
    content=lambda config, context, work: {**context.base, **steps_content(work.steps)},
    shows="student_phase/train_history.jsonl",
    slot="train/{stop}",
    label="train steps {first} to {stop} of {total}",
    after=lambda context: context.live.keep(),
)
def train(config: SegmentSettings, io: StageIO, work: SegmentWork) -> dict[str, Any]:
    """Take the steps from the parent's state, or from a new adapter, and save the state."""
    engine, lora = io.context.engine, lora_spec(config.lora, config.seed)
    parent = checkpoint(engine, io.input("parent")) if "parent" in io.inputs else None
    with training(io, work, lambda: io.context.live.take(engine, lora, parent)) as (session, io):
        examples, rows = work.data(), list[dict[str, Any]]()
        in_flight: deque[tuple[PlannedStep, PendingResult]] = deque()
        for step in work.steps:
            batch = mean_over_examples([examples[r] for r in step.rows])
            pending = session.submit(batch, adam_params(config.adam, step.learning_rate), step=step.step)
            durable.failpoint(durable.STEP_SUBMITTED, str(step.step))
            in_flight.append((step, pending))
            if len(in_flight) >= _IN_FLIGHT:
                rows.append(_finish(*in_flight.popleft(), io, work.total))
        saved = save(session, io, work.steps)  # follows the last steps without waiting for them
        rows += [_finish(*each, io, work.total) for each in in_flight]
        jsonio.write_jsonl(io.out / STEPS_FILE, rows)
    return {**saved, "last_loss": rows[-1]["loss"], "tokens": sum(row["tokens"] for row in rows)}


def _finish(step: PlannedStep, pending: PendingResult, io: StageIO, total: int) -> dict[str, Any]:
    """Return the row of steps.jsonl of a step in flight."""
    result = pending.result()
    io.progress.update(step.step + 1, total, f"loss {result.loss:.4f}, lr {step.learning_rate:.2e}")
    return {
        "step": step.step,
        "learning_rate": step.learning_rate,
        "batch_hash": step.batch_hash,
        "loss": result.loss,
        "grad_norm": result.grad_norm,
        "tokens": result.tokens,
    }


def read_steps(path: Path) -> list[TrainStep]:
    """Return the steps in a segment's STEPS_FILE."""
    return [TrainStep.from_json(row, str(path)) for row in jsonio.read_jsonl(path)]


def mean_over_examples(batch: Sequence[Datum]) -> list[Datum]:
    """Scale weights by 1 / examples, so that the engines' plain sum is a mean over examples."""
    n = len(batch)
    return [Datum(d.tokens, d.targets, tuple(w / n for w in d.weights)) for d in batch]


def adam_params(config: AdamConfig, rate: float) -> AdamParams:
    """Return all optimizer settings of one step."""
    return AdamParams(rate, **config.model_dump())


def lora_spec(lora: LoraConfig, seed: int) -> LoraSpec:
    """Return the config's adapter, initialized from `seed`."""
    return LoraSpec(lora.rank, lora.alpha, lora.dropout, seed, lora.mlp, lora.attention, lora.unembed)


def checkpoint(engine: Engine, folder: Path) -> Checkpoint:
    """Return the checkpoint in a segment's folder."""
    saved = SavedCheckpoint.read(folder / CHECKPOINT_FILE)
    state, sampler = engine.refs(folder)
    return Checkpoint(engine.identity, step=saved.step, digest=saved.digest, state=state, sampler=sampler)
