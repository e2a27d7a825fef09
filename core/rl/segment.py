"""One segment of reinforcement: from a checkpoint through its steps to the next saved state.

A step samples from the present weights and trains on what was sampled, so that no two steps overlap.
All that is random comes from (seed, step).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core import jsonio, milestones
from core.data.writing import read_examples
from core.engines.base import Engine, SamplerRef, SaveLabel, Session, Usage
from core.errors import ConfigError
from core.progress import Saying
from core.rl.learning import Course, PolicySlice, Trainer
from core.rl.rewards import Rubric
from core.stageio import StageIO
from core.student.encoding import Encoder
from core.student.segment import LiveSession, checkpoint, described, lora_spec_of

NAME = "reinforce"
VERSION = 2
STEPS = "steps.jsonl"
ROLLOUTS = "rollouts.jsonl"


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
    course: Course

    def __call__(self, config: PolicySlice, io: StageIO) -> dict[str, Any]:
        engine = self.engine()
        refuse_unknown_loss(engine, config.loss)
        progress = Saying(io.progress, self.course.steps[0].step, self.course.total)
        with engine.report_waits(progress.say):
            return self._run(engine, config, replace(io, progress=progress))

    def _run(self, engine: Engine, config: PolicySlice, io: StageIO) -> dict[str, Any]:
        session, ref = self._opened(engine, config, io)
        self.live.pending = session
        try:
            with tempfile.TemporaryDirectory() as folder:
                trainer = self._trainer(engine, config, io, session, Path(folder))
                rows, kept = trainer.train(ref)
            label = SaveLabel(key=io.key, writer=io.out.name)
            saved = session.save(io.out, step=self.course.steps[-1].step + 1, label=label)
            jsonio.write_jsonl(io.out / STEPS, rows)
            jsonio.write_jsonl(io.out / ROLLOUTS, kept)
        except BaseException:
            self.live.close()  # what failed may hold memory, or requests on their way
            raise
        milestones.passed(milestones.STATE_SAVED, str(saved.step))
        jsonio.write_json(io.out / "checkpoint.json", {"step": saved.step, "digest": saved.digest})
        return {**described(saved, engine), **_summary(rows, trainer)}

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
        return engine.open(lora, start.state, optimizer=config.keep_optimiser), start.sampler

    def _trainer(
        self, engine: Engine, config: PolicySlice, io: StageIO, session: Session, folder: Path
    ) -> Trainer:
        encoder = self.encoder()
        rubric = Rubric(
            encoder.wording, encoder.target, self.rule_ids(), config.length_tokens, config.rewards
        )
        examples = read_examples(io.inputs["split"] / "train.csv")
        return Trainer(self.course, config, io, engine, session, encoder, rubric, examples, folder)


def refuse_unknown_loss(engine: Engine, loss: str) -> None:
    """Raise ConfigError where an engine does not compute a loss."""
    known = engine.capabilities.losses
    if loss not in known:
        raise ConfigError(
            f"reinforce.loss {loss} is not one that this engine computes; it has {', '.join(sorted(known))}"
        )


def _summary(rows: Sequence[dict[str, Any]], trainer: Trainer) -> dict[str, Any]:
    found: dict[str, Any] = {
        "reward_mean": rows[-1]["reward_mean"],
        "tokens": sum(row["tokens"] for row in rows),
        "rollouts": sum(row["n_rollouts"] for row in rows),
        "failed_rollouts": sum(row["failed_rollouts"] for row in rows),
        "groups": sum(row["n_groups"] for row in rows),
        "groups_skipped": sum(row["groups_skipped"] for row in rows),
        "steps_without_update": sum(not row["updates"] for row in rows),
        "seconds_by_step": trainer.seconds,
    }
    if trainer.usage != Usage():
        found["usage"] = trainer.usage.to_json()
    return found
