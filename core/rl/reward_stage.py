"""The reward stage: the rewards of a checkpoint's own greedy answers to some texts of val."""

from __future__ import annotations

import statistics
from typing import Any

from core import jsonio
from core.config import Config
from core.config.base import ConfigSection
from core.config.engine import EngineChoice
from core.config.reinforce import RewardWeights, rewards_code
from core.data.splitting import subset
from core.data.writing import read_examples
from core.engines.sampling import GenerateParams, Generation
from core.evaluation.stages import billed, sampling
from core.records import Example
from core.rl.rewards import Answer, Rubric
from core.stage import StageIO, stage
from core.student.encoding import Encoder, EncodeSettings

ANSWERS = "answers.jsonl"


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
    every = read_examples(io.inputs["split"] / "val.csv")
    examples = [every[i] for i in subset(every, settings.rows, settings.seed)]
    encoder, rule_ids = io.context.encoder(), io.context.rulebook.ids
    prompts = encoder.prompts([e.text for e in examples], settings.max_new_tokens)
    params = GenerateParams(max_tokens=settings.max_new_tokens, stop_tokens=encoder.stop_tokens)
    with sampling(io, len(examples)) as (sampler, progress):
        answers = sampler.generate([p.tokens for p in prompts], params, progress=progress.update)
        usage = billed(sampler)
    rubric = Rubric(encoder.wording, encoder.target, rule_ids, settings.length_tokens, settings.rewards)
    rows = [_row(*pair, encoder, rubric) for pair in zip(examples, answers, strict=True)]
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


def _row(example: Example, generation: Generation, encoder: Encoder, rubric: Rubric) -> dict[str, Any]:
    """Return an answer with its rewards; one that failed has neither."""
    about = {"example_id": example.id, "true_label": example.label}
    if generation.finish == "error":
        return {**about, "error": generation.error, "reward": None}
    tokens = generation.tokens
    answer = Answer(*encoder.read(tokens), len(tokens), generation.finish == "stop")
    earned = rubric.judge(answer, example)
    return {
        **about,
        "generated": answer.raw,
        "n_tokens": answer.tokens,
        "ended": answer.ended,
        "pred_label": answer.said.label,
        "rewards": earned,
        "reward": rubric.total(earned),
    }
