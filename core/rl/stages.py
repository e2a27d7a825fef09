"""The stages of reinforcement: `reinforce` trains one segment, `reward` rewards answers to texts of val.

A segment leads from a checkpoint through its steps to the next saved state. A step samples from the current
weights, so that no two overlap. Random numbers come from (seed, step).
"""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from core import jsonio
from core.config import (
    AdamConfig,
    Config,
    ConfigSection,
    EngineChoice,
    LoraConfig,
    RewardWeights,
    rewards_code,
)
from core.data.splitting import subset
from core.engines import (
    Capabilities,
    EngineUsage,
    GenerateParams,
    Loss,
    Metered,
    Sampler,
    SamplerRef,
    SaveLabel,
    Session,
    StepResult,
    derived_seed,
)
from core.errors import ConfigError
from core.evaluation.student_scores import billed, sampling
from core.records import read_examples
from core.rl.rewards import (
    Answer,
    Rubric,
    Sampled,
    drifts,
    policy_data,
    rollout_row,
    sample_rollouts,
    step_figures,
)
from core.stage import StageIO, stage
from core.student.encoding import EncodeSettings
from core.student.train_stage import (
    PlannedStep,
    SegmentWork,
    adam_params,
    checkpoint,
    lora_spec,
    save,
    steps_content,
    training,
)

if TYPE_CHECKING:
    from core.pipeline.run_context import RunContext

log = logging.getLogger(__name__)

STEPS = "steps.jsonl"
ROLLOUTS = "rollouts.jsonl"
ANSWERS = "answers.jsonl"


class PolicySettings(ConfigSection):
    """The part of a config that decides a segment, besides its start, its texts and its learning rates."""

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
        return rewards_code(self.rewards)


def content(config: PolicySettings, context: RunContext, work: SegmentWork) -> dict[str, str]:
    return {
        **context.student_content(),
        "rule_ids": jsonio.digest(list(context.rulebook.ids)),
        "first_step": str(work.steps[0].step),
        **steps_content(work.steps),
    }


@stage(
    "reinforce",
    version=2,
    inputs=("split", "parent?", "start?", "reference?"),
    content=content,
    shows="rl_phase/rl_history.jsonl",
    switch=None,
    slot="reinforce/{stop}",
    label="reinforce steps {first} to {stop} of {total}",
    after=lambda context: context.live.keep(),
)
def reinforce(config: PolicySettings, io: StageIO, work: SegmentWork) -> dict[str, Any]:
    """Take the steps and save the state after them.

    Inputs: `split`, the texts; `parent`, the previous segment, or `start`, the student to begin with;
    `reference`, the weights from which drift is measured. The base model is the default of both.
    """
    engine, live = io.context.engine, io.context.live
    require_loss(io.context.capabilities, config.loss)
    at = {name: checkpoint(engine, io.inputs[name]) for name in ("parent", "start") if name in io.inputs}
    parent, start, lora = at.get("parent"), at.get("start"), lora_spec(config.lora, config.seed)

    def open_session() -> Session:
        if parent is not None or start is None:
            return live.take(engine, lora, parent)
        live.close()
        return engine.open(lora, start.state, optimizer=config.keep_optimiser)

    origin = parent or start
    with training(io, work, open_session) as (session, io):
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(config, io, session, Path(folder))
            rows, kept = trainer.train(work, origin.sampler if origin else None)
        saved = save(session, io, work.steps)
        jsonio.write_jsonl(io.out / STEPS, rows)
        jsonio.write_jsonl(io.out / ROLLOUTS, kept)
    sums = {"tokens": "tokens", "rollouts": "n_rollouts", "failed_rollouts": "failed_rollouts"}
    sums |= {"groups": "n_groups", "groups_skipped": "groups_skipped"}
    summary: dict[str, Any] = {
        **saved,
        "reward_mean": rows[-1]["reward_mean"],
        **{name: sum(row[key] for row in rows) for name, key in sums.items()},
        "steps_without_update": sum(not row["updates"] for row in rows),
        "seconds_by_step": trainer.seconds,
    }
    if trainer.usage != EngineUsage():
        summary["usage"] = trainer.usage.to_json()
    return summary


def require_loss(can: Capabilities, loss: str) -> None:
    """Raise ConfigError if an engine does not compute a loss."""
    if loss not in can.losses:
        known = ", ".join(sorted(can.losses))
        raise ConfigError(f"reinforce.loss {loss} is not one that this engine computes; it has {known}")


@dataclass(slots=True)
class Trainer:
    """Takes the steps of one segment; `folder` is for weights that only the next step samples from."""

    config: PolicySettings
    io: StageIO
    session: Session
    folder: Path
    usage: EngineUsage = field(default_factory=EngineUsage)
    seconds: list[float] = field(default_factory=list)

    def train(
        self, work: SegmentWork, ref: SamplerRef | None
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return the rows of all steps and of the answers that are kept; `ref` has the first weights."""
        config, encoder, rule_ids = self.config, self.io.context.encoder(), self.io.context.rulebook.ids
        rubric = Rubric(encoder.wording, encoder.target, rule_ids, config.length_tokens, config.rewards)
        examples = read_examples(self.io.input("split") / "train.csv")
        rows, kept = [], []
        for step in work.steps:
            began = time.monotonic()
            params = GenerateParams(
                max_tokens=config.max_new_tokens,
                temperature=config.temperature,
                seed=derived_seed(config.seed, step.step),
                stop_tokens=encoder.stop_tokens,
            )
            asked, size, way = [examples[i] for i in step.rows], config.group_size, config.advantages
            with self._sampler(ref) as sampler:
                sampled = sample_rollouts(sampler, encoder, rubric, asked, params, size, way)
            row = self._learn(step, sampled)
            rows.append(row)
            kept += [
                {"step": row["step"], "epoch": row["epoch"], **rollout_row(r)}
                for r in sampled.rollouts[: config.rollouts_kept]
            ]
            if row["updates"] and step is not work.steps[-1]:
                label, number = SaveLabel(self.io.key, self.io.out.name), step.step + 1
                folder = self.folder / str(number)
                ref = self.session.save_weights_for_sampler(folder, step=number, label=label)
            self.seconds.append(round(time.monotonic() - began, 2))
            self._report(row, work.total)
        return rows, kept

    def _learn(self, step: PlannedStep, sampled: Sampled) -> dict[str, Any]:
        """Train on the answers that have an advantage; return the row, with the first substep's loss."""
        config, trained = self.config, sampled.trained
        drift: list[list[float]] | None = None
        if config.kl and trained:
            folder = self.io.optional("reference")
            ref = None if folder is None else checkpoint(self.io.context.engine, folder).sampler
            with self._sampler(ref) as reference:
                drift = drifts(reference, trained)
        results: list[StepResult] = []
        if trained:
            batch = policy_data(trained, drift, config.kl)
            loss = Loss(config.loss, config.clip_low, config.clip_high)
            adam, first = adam_params(config.adam, step.learning_rate), step.step * config.substeps
            steps = range(first, first + config.substeps)
            pending = [self.session.submit(batch, adam, step=each, loss=loss) for each in steps]
            results = [each.result() for each in pending]
        return {
            "step": step.step + 1,
            "epoch": step.epoch,
            "learning_rate": step.learning_rate,
            "batch_hash": step.batch_hash,
            "loss": results[0].loss if results else None,
            "grad_norm": results[0].grad_norm if results else None,
            "tokens": sum(result.tokens for result in results),
            "updates": len(results),
            "loss_fn": config.loss,
            "num_substeps": config.substeps,
            "kl_beta": config.kl,
            **step_figures(sampled, drift),
        }

    def _report(self, row: dict[str, Any], total: int) -> None:
        reward, accuracy = row["reward_mean"], row["batch_acc"]
        note = "no answer received" if reward is None else f"reward {reward:.3f}, right {accuracy:.1%}"
        if not row["updates"]:
            note += ", nothing to learn: no group's rewards differ"
            message = "step %d takes no update: in none of %d groups do rewards differ"
            log.info(message, row["step"], row["n_groups"])
        if row["failed_rollouts"]:
            log.warning("step %d: %d answers failed and are left out", row["step"], row["failed_rollouts"])
        self.io.progress.update(row["step"], total, note)

    @contextmanager
    def _sampler(self, ref: SamplerRef | None) -> Iterator[Sampler]:
        """Open a sampler, whose usage is added to the segment's."""
        with closing(self.io.context.engine.sampler(ref)) as sampler:
            yield sampler
        if isinstance(sampler, Metered):
            self.usage += sampler.usage


class RewardSettings(ConfigSection):
    """The part of the config that decides the rewards on val."""

    engine: EngineChoice
    prompt: EncodeSettings
    rows: int
    max_new_tokens: int
    rewards: RewardWeights
    length_tokens: int
    seed: int

    def key_extras(self) -> dict[str, Any]:
        return rewards_code(self.rewards)

    @classmethod
    def of(cls, config: Config) -> RewardSettings:
        own, student = config.reinforce, config.student
        return cls(
            engine=student.engine.for_sampling(),
            prompt=EncodeSettings.of(student),
            rows=own.reward_rows,
            max_new_tokens=own.max_new_tokens,
            rewards=own.rewards,
            length_tokens=own.length_tokens,
            seed=config.seed,
        )


@stage(
    "reward",
    version=2,
    inputs=("split", "checkpoint?"),
    content=lambda settings, context: {
        **context.student_content(),
        "rule_ids": jsonio.digest(list(context.rulebook.ids)),
    },
    shows="rl_phase/val_rewards.jsonl",
    switch=None,
    slot="reward/rl/{step}",
    label="reward RL step {step} on val",
)
def reward(settings: RewardSettings, io: StageIO) -> dict[str, Any]:
    """Write answers.jsonl: the greedy answers of a checkpoint, or of the base model, and their rewards."""
    every = read_examples(io.input("split") / "val.csv")
    examples = [every[i] for i in subset(every, settings.rows, settings.seed)]
    encoder, rule_ids = io.context.encoder(), io.context.rulebook.ids
    prompts = encoder.prompts([e.text for e in examples], settings.max_new_tokens)
    params = GenerateParams(max_tokens=settings.max_new_tokens, stop_tokens=encoder.stop_tokens)
    with sampling(io, len(examples)) as (sampler, progress):
        answers = sampler.generate([p.tokens for p in prompts], params, progress=progress.update)
        usage = billed(sampler)
    rubric = Rubric(encoder.wording, encoder.target, rule_ids, settings.length_tokens, settings.rewards)
    rows = list[dict[str, Any]]()
    for example, generation in zip(examples, answers, strict=True):
        about = {"example_id": example.id, "true_label": example.label}
        if generation.finish == "error":
            rows.append({**about, "error": generation.error, "reward": None})
            continue
        answer = Answer.of(generation, encoder)
        earned = rubric.judge(answer, example)
        rows.append({**about, **answer.row(), "rewards": earned, "reward": rubric.total(earned)})
    jsonio.write_jsonl(io.out / ANSWERS, rows)
    given = [row for row in rows if row["reward"] is not None]
    names = list(given[0]["rewards"]) if given else []
    return {
        "rows": len(rows),
        "failed_rows": len(rows) - len(given),
        "reward_mean": statistics.fmean(row["reward"] for row in given) if given else None,
        "rewards": {name: statistics.fmean(row["rewards"][name] for row in given) for name in names},
        **usage,
    }
