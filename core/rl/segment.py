"""One segment of reinforcement: from a checkpoint through its steps to the next saved state.

A step samples from the present weights and trains on what was sampled, so that no two steps overlap.
All that is random comes from (seed, step).
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from core import jsonio, milestones
from core.config.base import Section
from core.config.reinforce import ReinforceConfig, RewardWeights
from core.config.student import AdamConfig, LoraConfig
from core.data.writing import read_examples
from core.engines.local.seeds import derived_seed
from core.errors import ConfigError
from core.progress import Saying
from core.records import Example
from core.rl import rollouts
from core.rl.rewards import Rubric
from core.rl.rollouts import Asking, Sampled
from core.stageio import StageIO
from core.student.encoding import Encoder, EncodeSlice
from core.student.engine import (
    Engine,
    GenerateParams,
    Metered,
    Sampler,
    SamplerRef,
    SaveLabel,
    Session,
    StepResult,
    Usage,
)
from core.student.losses import Loss
from core.student.plan import PlannedStep
from core.student.segment import LiveSession, adam_params, checkpoint, described, lora_spec_of

log = logging.getLogger(__name__)

NAME = "reinforce"
VERSION = 1
STEPS = "steps.jsonl"
ROLLOUTS = "rollouts.jsonl"


class PolicySlice(Section):
    """What decides a segment besides its start, its texts and its learning rates."""

    engine: str
    seed: int
    lora: LoraConfig
    adam: AdamConfig
    train_dtype: str
    device: str
    threads: int | None
    prompt: EncodeSlice
    group_size: int
    temperature: float
    max_new_tokens: int
    rewards: RewardWeights
    length_tokens: int
    advantages: Literal["normalised", "centred"]
    loss: Literal["importance_sampling", "ppo", "cispo"]
    clip_low: float
    clip_high: float
    substeps: int
    kl: float
    keep_optimiser: bool
    rollouts_kept: int

    @classmethod
    def of(cls, config: ReinforceConfig, **others: Any) -> PolicySlice:
        """The slice of a whole reinforce section; `others` are of other sections."""
        own = {n: getattr(config, n) for n in cls.model_fields if n in type(config).model_fields}
        return cls(**own, **others)

    @property
    def policy_loss(self) -> Loss:
        """The loss with its bounds."""
        loss = Loss(self.loss)
        return Loss(self.loss, self.clip_low, self.clip_high) if loss.clips else loss


@dataclass(slots=True)
class _Counted:
    """What a segment took."""

    usage: Usage = field(default_factory=Usage)
    seconds: list[float] = field(default_factory=list)

    def add(self, sampler: Sampler) -> None:
        if isinstance(sampler, Metered):
            self.usage += sampler.usage


@dataclass(frozen=True, slots=True)
class PolicyRun:
    """The stage's function, bound to engine, encoder and steps.

    Inputs: `split`, the texts; `parent`, the segment before, or `start`, the student to begin with, or
    neither: the base model; `reference`, what a penalty on drift is measured from, the base model if absent.
    """

    engine: Callable[[], Engine]
    encoder: Callable[[], Encoder]
    rule_ids: Callable[[], tuple[str, ...]]
    live: LiveSession
    steps: Sequence[PlannedStep]
    per_epoch: int
    total: int

    def __call__(self, config: PolicySlice, io: StageIO) -> dict[str, Any]:
        engine = self.engine()
        refuse_unknown_loss(engine, config.loss)
        progress = Saying(io.progress, self.steps[0].step, self.total)
        with engine.waits(progress.say):
            return self._run(engine, config, replace(io, progress=progress))

    def _run(self, engine: Engine, config: PolicySlice, io: StageIO) -> dict[str, Any]:
        session, ref = self._opened(engine, config, io)
        self.live.pending = session
        counted = _Counted()
        try:
            with self._trainer(engine, config, io, session, counted) as trainer:
                rows, kept = trainer.train(ref)
            label = SaveLabel(key=io.key, writer=io.out.name)
            saved = session.save(io.out, step=self.steps[-1].step + 1, label=label)
            jsonio.write_jsonl(io.out / STEPS, rows)
            jsonio.write_jsonl(io.out / ROLLOUTS, kept)
        except BaseException:
            self.live.close()  # what failed may hold memory, or requests on their way
            raise
        milestones.passed(milestones.STATE_SAVED, str(saved.step))
        jsonio.write_json(io.out / "checkpoint.json", {"step": saved.step, "digest": saved.digest})
        return {**described(saved, engine), **_summary(rows, counted)}

    def _opened(self, engine: Engine, config: PolicySlice, io: StageIO) -> tuple[Session, SamplerRef | None]:
        """The session to train, and where the weights lie that it begins with."""
        lora = lora_spec_of(config.lora, config.seed)
        if "parent" in io.inputs:
            parent = checkpoint(engine, io.inputs["parent"])
            return self.live.take(engine, lora, parent), parent.sampler
        self.live.close()
        if "start" not in io.inputs:
            return engine.open(lora, None), None
        start = checkpoint(engine, io.inputs["start"])
        return engine.open(lora, start.state, optimiser=config.keep_optimiser), start.sampler

    @contextmanager
    def _trainer(
        self, engine: Engine, config: PolicySlice, io: StageIO, session: Session, counted: _Counted
    ) -> Iterator[_Trainer]:
        encoder = self.encoder()
        rubric = Rubric(
            encoder.wording, encoder.target, self.rule_ids(), config.length_tokens, config.rewards
        )
        examples = read_examples(io.inputs["split"] / "train.csv")
        with tempfile.TemporaryDirectory() as folder:
            yield _Trainer(
                self, engine, config, io, session, counted, encoder, rubric, examples, Path(folder)
            )


@dataclass(slots=True)
class _Trainer:
    """The steps of one segment."""

    run: PolicyRun
    engine: Engine
    config: PolicySlice
    io: StageIO
    session: Session
    counted: _Counted
    encoder: Encoder
    rubric: Rubric
    examples: Sequence[Example]
    folder: Path

    def train(self, ref: SamplerRef | None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Every step; the rows of the steps and of the answers that are kept. `ref` has the weights now."""
        rows, kept = [], []
        for step in self.run.steps:
            began = time.monotonic()
            sampled = self._sample(step, ref)
            row, updated = self._learn(step, sampled)
            rows.append(row)
            kept += [
                {"step": row["step"], "epoch": row["epoch"], **rollouts.row(r)}
                for r in sampled.rollouts[: self.config.rollouts_kept]
            ]
            last = step is self.run.steps[-1]
            if updated and not last:
                ref = self._lent(step)
            self.counted.seconds.append(round(time.monotonic() - began, 2))
            self._tell(row)
        return rows, kept

    def _sample(self, step: PlannedStep, ref: SamplerRef | None) -> Sampled:
        config, encoder = self.config, self.encoder
        encoder.require_room(config.max_new_tokens)
        examples = [self.examples[i] for i in step.rows]
        texts = encoder.tokenizer.encode_texts([e.text for e in examples])
        params = GenerateParams(
            max_tokens=config.max_new_tokens,
            temperature=config.temperature,
            seed=derived_seed(config.seed, step.step),
            stop_tokens=encoder.tokenizer.stop_tokens(encoder.frame.end_of_turn),
        )
        asking = Asking(
            examples,
            [encoder.prompt_with_room(text, config.max_new_tokens).tokens for text in texts],
            config.group_size,
            params,
            self.rubric,
            encoder.tokenizer.decode,
            config.advantages,
        )
        with closing(self.engine.sampler(ref)) as sampler:
            sampled = rollouts.sample(sampler, asking)
            self.counted.add(sampler)
        return sampled

    def _learn(self, step: PlannedStep, sampled: Sampled) -> tuple[dict[str, Any], bool]:
        trained = sampled.trained
        drift = self._drift(sampled) if self.config.kl else None
        results: list[StepResult] = []
        if trained:
            batch = rollouts.data(trained, drift, self.config.kl)
            adam = adam_params(self.config.adam, step.learning_rate)
            first = step.step * self.config.substeps
            pending = [
                self.session.submit(batch, adam, step=first + i, loss=self.config.policy_loss)
                for i in range(self.config.substeps)
            ]
            results = [each.result() for each in pending]
        return {**self._row(step, results), **rollouts.figures(sampled, drift)}, bool(trained)

    def _drift(self, sampled: Sampled) -> list[list[float]]:
        """From the start, of all that is trained on."""
        folder = self.io.inputs.get("reference")
        ref = None if folder is None else checkpoint(self.engine, folder).sampler
        with closing(self.engine.sampler(ref)) as reference:
            found = rollouts.drifts(reference, sampled.trained) if sampled.trained else []
            self.counted.add(reference)
        return found

    def _row(self, step: PlannedStep, results: Sequence[StepResult]) -> dict[str, Any]:
        """Steps count from 1 here, as in the files that users know. The loss is the first substep's."""
        return {
            "step": step.step + 1,
            "epoch": step.step // self.run.per_epoch + 1,
            "learning_rate": step.learning_rate,
            "batch_hash": step.batch_hash,
            "loss": results[0].loss if results else None,
            "grad_norm": results[0].grad_norm if results else None,
            "tokens": sum(result.tokens for result in results),
            "updates": len(results),
            "loss_fn": self.config.loss,
            "num_substeps": self.config.substeps,
            "kl_beta": self.config.kl,
        }

    def _lent(self, step: PlannedStep) -> SamplerRef:
        """The weights as they are now, for the next step's answers."""
        label = SaveLabel(key=self.io.key, writer=self.io.out.name)
        number = step.step + 1
        return self.session.lend(self.folder / str(number), step=number, label=label)

    def _tell(self, row: dict[str, Any]) -> None:
        reward, right = row["reward_mean"], row["batch_acc"]
        said = "no answer came" if reward is None else f"reward {reward:.3f}, right {right:.1%}"
        if not row["updates"]:
            said += ", nothing to learn: no group's rewards differ"
            log.info(
                "step %d takes no update: in none of %d groups do rewards differ",
                row["step"],
                row["n_groups"],
            )
        if row["failed_rollouts"]:
            log.warning("step %d: %d answers failed and are left out", row["step"], row["failed_rollouts"])
        self.io.progress.update(row["step"], self.run.total, said)


def refuse_unknown_loss(engine: Engine, loss: str) -> None:
    """Raise ConfigError where an engine does not compute a loss."""
    known = engine.capabilities.losses
    if loss not in known:
        raise ConfigError(
            f"reinforce.loss {loss} is not one that this engine computes; it has {', '.join(sorted(known))}"
        )


def _summary(rows: Sequence[dict[str, Any]], counted: _Counted) -> dict[str, Any]:
    used = counted.usage
    found: dict[str, Any] = {
        "reward_mean": rows[-1]["reward_mean"],
        "tokens": sum(row["tokens"] for row in rows),
        "rollouts": sum(row["n_rollouts"] for row in rows),
        "failed_rollouts": sum(row["failed_rollouts"] for row in rows),
        "groups": sum(row["n_groups"] for row in rows),
        "groups_skipped": sum(row["groups_skipped"] for row in rows),
        "steps_without_update": sum(not row["updates"] for row in rows),
        "seconds_by_step": counted.seconds,
    }
    if used != Usage():
        tokens = {"prefilled_tokens": used.prefilled, "sampled_tokens": used.sampled}
        found["usage"] = {**tokens, "requests": used.requests}
    return found
