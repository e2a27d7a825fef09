"""The reward stage: what a checkpoint's own greedy answers to some texts of val earn."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from core import jsonio
from core.config.base import Section
from core.config.engine import EngineChoice
from core.config.reinforce import RewardWeights, rewards_code
from core.data.making import subset
from core.data.writing import read_examples
from core.engines.base import Engine, GenerateParams, Generation, Sampler
from core.evaluation.stage import used
from core.progress import Saying
from core.records import Example
from core.rl.rewards import Rubric
from core.stageio import StageIO
from core.student.encoding import Encoder, EncodeSlice
from core.student.segment import checkpoint

NAME = "reward"
VERSION = 2
ANSWERS = "answers.jsonl"


class RewardSlice(Section):
    """What decides the answers and what they earn."""

    engine: EngineChoice
    prompt: EncodeSlice
    rows: int
    max_new_tokens: int
    rewards: RewardWeights
    length_tokens: int
    seed: int

    def key_extras(self) -> dict[str, Any]:
        """Return what identifies the code of rewards that are not built in."""
        return rewards_code(self.rewards)


@dataclass(frozen=True, slots=True)
class RewardRun:
    """The stage's function. Inputs: `split`; `checkpoint`, absent for the base model."""

    engine: Callable[[], Engine]
    encoder: Callable[[], Encoder]
    rule_ids: Callable[[], tuple[str, ...]]

    def __call__(self, config: RewardSlice, io: StageIO) -> dict[str, Any]:
        every = read_examples(io.inputs["split"] / "val.csv")
        examples = [every[i] for i in subset(every, config.rows, config.seed)]
        engine, progress = self.engine(), Saying(io.progress, 0, len(examples))
        ref = checkpoint(engine, io.inputs["checkpoint"]).sampler if "checkpoint" in io.inputs else None
        with engine.report_waits(progress.say), closing(engine.sampler(ref)) as sampler:
            found = self._judged(sampler, config, examples, replace(io, progress=progress))
        jsonio.write_jsonl(io.out / ANSWERS, found)
        return {**_means(found), **used(sampler)}

    def _judged(
        self, sampler: Sampler, config: RewardSlice, examples: Sequence[Example], io: StageIO
    ) -> list[dict[str, Any]]:
        encoder = self.encoder()
        encoder.require_room(config.max_new_tokens)
        texts = encoder.tokenizer.encode_texts([e.text for e in examples])
        prompts = [encoder.prompt_with_room(text, config.max_new_tokens).tokens for text in texts]
        params = GenerateParams(max_tokens=config.max_new_tokens, stop_tokens=encoder.stop_tokens)
        said = sampler.generate(prompts, params, progress=io.progress.update)
        rubric = Rubric(
            encoder.wording, encoder.target, self.rule_ids(), config.length_tokens, config.rewards
        )
        pairs = zip(examples, said, strict=True)
        return [_row(example, given, encoder, rubric) for example, given in pairs]


def _row(example: Example, said: Generation, encoder: Encoder, rubric: Rubric) -> dict[str, Any]:
    """An answer and what it earns; one that failed has neither."""
    about = {"example_id": example.id, "true_label": example.label}
    if said.finish == "error":
        return {**about, "error": said.error, "reward": None}
    answer = rubric.read(encoder.tokenizer.decode(said.tokens), len(said.tokens), ended=said.finish == "stop")
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


def _means(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    given = [row for row in rows if row["reward"] is not None]
    names = list(given[0]["rewards"]) if given else []
    return {
        "rows": len(rows),
        "failed_rows": len(rows) - len(given),
        "reward_mean": statistics.fmean(row["reward"] for row in given) if given else None,
        "rewards": {name: statistics.fmean(row["rewards"][name] for row in given) for name in names},
    }
