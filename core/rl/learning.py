"""The steps of reinforcement: sample from the present weights, reward, learn, and again from the new ones."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from core.config import Config
from core.config.base import Section
from core.config.engine import EngineChoice
from core.config.reinforce import RewardWeights, rewards_code
from core.config.student import AdamConfig, LoraConfig
from core.engines.base import (
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
from core.engines.losses import Loss
from core.engines.seeds import derived_seed
from core.records import Example
from core.rl import rollouts
from core.rl.rewards import Rubric
from core.rl.rollouts import Asking, Sampled
from core.stage import StageIO
from core.student.encoding import Encoder, EncodeSettings
from core.student.plan import PlannedStep
from core.student.segment import adam_params, checkpoint

log = logging.getLogger(__name__)


class PolicySettings(Section):
    """What decides a segment besides its start, its texts and its learning rates."""

    engine: EngineChoice
    seed: int
    lora: LoraConfig
    adam: AdamConfig
    prompt: EncodeSettings
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
    def of(cls, config: Config) -> PolicySettings:
        """The part of the config that decides how a step samples, rewards and learns."""
        own, student = config.reinforce, config.student
        return cls(
            **{n: getattr(own, n) for n in cls.model_fields if n in type(own).model_fields},
            engine=student.engine,
            seed=config.training_seed,
            lora=student.lora,
            adam=student.adam,
            prompt=EncodeSettings.of(student),
        )

    def key_extras(self) -> dict[str, Any]:
        """Return what identifies the code of rewards that are not built in."""
        return rewards_code(self.rewards)

    @property
    def policy_loss(self) -> Loss:
        """The loss with its bounds."""
        loss = Loss(self.loss)
        return Loss(self.loss, self.clip_low, self.clip_high) if loss.clips else loss


@dataclass(frozen=True, slots=True)
class Course:
    """The steps of one segment, and of how many an epoch and the whole consist."""

    steps: Sequence[PlannedStep]
    per_epoch: int
    total: int


@dataclass(slots=True)
class Trainer:
    """Takes the steps of one segment, and counts what they took; `folder` is for weights that are lent."""

    course: Course
    config: PolicySettings
    io: StageIO
    engine: Engine
    session: Session
    encoder: Encoder
    rubric: Rubric
    examples: Sequence[Example]
    folder: Path
    usage: Usage = field(default_factory=Usage)
    seconds: list[float] = field(default_factory=list)

    def train(self, ref: SamplerRef | None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Every step; the rows of the steps and of the answers that are kept. `ref` has the weights now."""
        rows, kept = [], []
        for step in self.course.steps:
            began = time.monotonic()
            sampled = self._sample(step, ref)
            row, updated = self._learn(step, sampled)
            rows.append(row)
            kept += [
                {"step": row["step"], "epoch": row["epoch"], **rollouts.row(r)}
                for r in sampled.rollouts[: self.config.rollouts_kept]
            ]
            last = step is self.course.steps[-1]
            if updated and not last:
                ref = self._lent(step)
            self.seconds.append(round(time.monotonic() - began, 2))
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
            stop_tokens=encoder.stop_tokens,
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
            self._count(sampler)
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
            self._count(reference)
        return found

    def _row(self, step: PlannedStep, results: Sequence[StepResult]) -> dict[str, Any]:
        """Steps count from 1 here, as in the files that users know. The loss is the first substep's."""
        return {
            "step": step.step + 1,
            "epoch": step.step // self.course.per_epoch + 1,
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
        return self.session.save_weights_for_sampler(self.folder / str(number), step=number, label=label)

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
        self.io.progress.update(row["step"], self.course.total, said)

    def _count(self, sampler: Sampler) -> None:
        if isinstance(sampler, Metered):
            self.usage += sampler.usage
