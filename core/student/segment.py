"""One segment of training: from a saved state through its steps to the next saved state."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import failpoints, jsonio
from core.config import Config
from core.config.base import Section
from core.config.engine import EngineChoice
from core.config.student import AdamConfig, LoraConfig
from core.engines.base import (
    AdamParams,
    Checkpoint,
    Datum,
    Engine,
    LoraSpec,
    Pending,
    SaveLabel,
    Session,
)
from core.jsonio import Record
from core.progress import Saying
from core.stage import StageIO, stage
from core.student import plan
from core.student.plan import PlannedStep

if TYPE_CHECKING:
    from core.pipeline.context import RunContext

IN_FLIGHT = 2
STEPS_FILE = "steps.jsonl"


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


class SegmentSettings(Section):
    """What decides a segment besides its parent and its batches."""

    engine: EngineChoice
    seed: int
    lora: LoraConfig
    adam: AdamConfig
    loss: str = "cross_entropy"

    @classmethod
    def of(cls, config: Config) -> SegmentSettings:
        """The part of the config that decides how a step is taken."""
        student = config.student
        return cls(
            engine=student.engine,
            seed=config.training_seed,
            lora=student.lora,
            adam=student.adam,
        )


@dataclass(slots=True)
class LiveSession:
    """At most one live session a process, so that segments in a row need not reload.

    It is taken only if its tip is exactly the checkpoint asked for, and put back only after the
    segment's manifest is written.
    """

    session: Session | None = None
    pending: Session | None = field(default=None)

    def take(self, engine: Engine, lora: LoraSpec, parent: Checkpoint | None) -> Session:
        """The live session at `parent`, else a new one restored from its state."""
        session, self.session = self.session, None
        if session is not None:
            tip = session.tip
            if (
                parent is not None
                and tip is not None
                and (tip.digest, tip.step) == (parent.digest, parent.step)
            ):
                return session
            session.close()
        return engine.open(lora, parent.state if parent else None)

    def keep(self) -> None:
        """Put the session back: its segment is safe."""
        self.session, self.pending = self.pending, None

    def close(self) -> None:
        """End whatever is open."""
        for session in (self.session, self.pending):
            if session is not None:
                session.close()
        self.session = self.pending = None


def content(
    config: SegmentSettings, context: RunContext, *, steps: Sequence[PlannedStep], **given: Any
) -> dict[str, str]:
    """Digests of the base model, of the batches and of the learning rates."""
    return {**context.base, **plan.content(steps)}


@stage(
    "train",
    version=1,
    inputs=("parent?",),
    content=content,
    shows="student_phase/train_history.jsonl",
    slot="train/{stop}",
    label="train steps {first} to {stop} of {total}",
    after=lambda context: context.live.keep(),
)
def train(
    config: SegmentSettings,
    io: StageIO,
    *,
    steps: Sequence[PlannedStep],
    total: int,
    data: Callable[[], Sequence[Datum]],
) -> dict[str, Any]:
    """Take `steps` of `total` from the parent's state, or from a new adapter, and save the state."""
    engine, live = io.context.engine, io.context.live
    progress = Saying(io.progress, steps[0].step, total)
    io = replace(io, progress=progress)
    with engine.report_waits(progress.say):
        parent = checkpoint(engine, io.inputs["parent"]) if "parent" in io.inputs else None
        session = live.take(engine, lora_spec(config), parent)
        live.pending = session
        try:
            rows, waiting = _submit(session, config.adam, steps, data(), io, total)
            # The save follows the last steps without waiting for them.
            label = SaveLabel(key=io.key, writer=io.out.name)
            saved = session.save(io.out, step=steps[-1].step + 1, label=label)
            rows += [_finished(*each, io, total) for each in waiting]
            jsonio.write_jsonl(io.out / STEPS_FILE, rows)
        except BaseException:
            live.close()  # what failed may hold memory, or requests on their way
            raise
        failpoints.hit(failpoints.STATE_SAVED, str(saved.step))
        jsonio.write_json(io.out / "checkpoint.json", {"step": saved.step, "digest": saved.digest})
        tokens = sum(row["tokens"] for row in rows)
        return {**described(saved, engine), "last_loss": rows[-1]["loss"], "tokens": tokens}


def _submit(
    session: Session,
    adam: AdamConfig,
    steps: Sequence[PlannedStep],
    data: Sequence[Datum],
    io: StageIO,
    total: int,
) -> tuple[list[dict[str, Any]], deque[tuple[PlannedStep, Pending]]]:
    """Submit every step; returns the rows of the finished steps, and the last steps, which are in flight."""
    waiting: deque[tuple[PlannedStep, Pending]] = deque()
    rows: list[dict[str, Any]] = []
    for step in steps:
        batch = mean_over_examples([data[r] for r in step.rows])
        pending = session.submit(batch, adam_params(adam, step.learning_rate), step=step.step)
        failpoints.hit(failpoints.STEP_SUBMITTED, str(step.step))
        waiting.append((step, pending))
        if len(waiting) >= IN_FLIGHT:
            rows.append(_finished(*waiting.popleft(), io, total))
    return rows, waiting


def _finished(step: PlannedStep, pending: Pending, io: StageIO, total: int) -> dict[str, Any]:
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


def described(saved: Checkpoint, engine: Engine) -> dict[str, Any]:
    """What a segment's summary says of the checkpoint it ends with."""
    found = {
        "step": saved.step,
        "checkpoint_digest": saved.digest,
        "base_digest": saved.engine.base_digest,
        "fingerprint": engine.fingerprint,
    }
    if not engine.capabilities.remote:
        return found
    return {**found, "state_path": saved.state.location, "sampler_path": saved.sampler.location}


def mean_over_examples(batch: Sequence[Datum]) -> list[Datum]:
    """Scale weights by 1 / examples, so that the engines' plain sum is a mean over examples."""
    n = len(batch)
    return [Datum(d.tokens, d.targets, tuple(w / n for w in d.weights)) for d in batch]


def adam_params(config: AdamConfig, rate: float) -> AdamParams:
    """All optimiser settings of one step."""
    return AdamParams(
        rate, config.beta1, config.beta2, config.eps, config.weight_decay, config.grad_clip_norm
    )


def lora_spec(config: SegmentSettings) -> LoraSpec:
    """The adapter as the engine wants it."""
    return lora_spec_of(config.lora, config.seed)


def lora_spec_of(lora: LoraConfig, seed: int) -> LoraSpec:
    """The config's adapter, started from `seed`."""
    return LoraSpec(
        rank=lora.rank,
        alpha=lora.alpha,
        dropout=lora.dropout,
        seed=seed,
        train_mlp=lora.mlp,
        train_attention=lora.attention,
        train_unembed=lora.unembed,
    )


def checkpoint(engine: Engine, folder: Path) -> Checkpoint:
    """The checkpoint in a segment's folder."""
    saved = read_checkpoint(folder)
    state, sampler = engine.refs(folder)
    return Checkpoint(engine.identity, step=saved.step, digest=saved.digest, state=state, sampler=sampler)


def read_checkpoint(folder: Path) -> SavedCheckpoint:
    """Return what a segment's checkpoint.json says."""
    return SavedCheckpoint.read(folder / "checkpoint.json")
