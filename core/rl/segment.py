"""One segment of reinforcement: from a checkpoint through its steps to the next saved state.

A step samples from the present weights and trains on what was sampled, so that no two steps overlap.
All that is random comes from (seed, step).
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import failpoints, jsonio
from core.data.writing import read_examples
from core.engines.base import Engine, SamplerRef, SaveLabel, Session, Usage
from core.errors import ConfigError
from core.progress import Saying
from core.rl.learning import Course, PolicySettings, Trainer
from core.rl.rewards import Rubric
from core.stage import StageIO, stage
from core.student import plan
from core.student.segment import LiveSession, checkpoint, described, lora_spec_of

if TYPE_CHECKING:
    from core.pipeline.context import RunContext

STEPS = "steps.jsonl"
ROLLOUTS = "rollouts.jsonl"


def content(config: PolicySettings, context: RunContext, *, course: Course) -> dict[str, str]:
    """Digests of model, prompt and rule ids, of the steps' texts and of their learning rates."""
    return {
        **context.student_content(),
        "rule_ids": jsonio.digest(list(context.rulebook.ids)),
        "first_step": str(course.steps[0].step),
        **plan.content(course.steps),
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
def reinforce(config: PolicySettings, io: StageIO, *, course: Course) -> dict[str, Any]:
    """Take the steps of `course` and save the state after them.

    Inputs: `split`, the texts; `parent`, the segment before, or `start`, the student to begin with, or
    neither: the base model; `reference`, what a penalty on drift is measured from, the base model if absent.
    """
    engine, live = io.context.engine, io.context.live
    refuse_unknown_loss(engine, config.loss)
    progress = Saying(io.progress, course.steps[0].step, course.total)
    io = replace(io, progress=progress)
    with engine.report_waits(progress.say):
        session, ref = _opened(engine, live, config, io)
        live.pending = session
        try:
            with tempfile.TemporaryDirectory() as folder:
                trainer = _trainer(engine, config, course, io, session, Path(folder))
                rows, kept = trainer.train(ref)
            label = SaveLabel(key=io.key, writer=io.out.name)
            saved = session.save(io.out, step=course.steps[-1].step + 1, label=label)
            jsonio.write_jsonl(io.out / STEPS, rows)
            jsonio.write_jsonl(io.out / ROLLOUTS, kept)
        except BaseException:
            live.close()  # what failed may hold memory, or requests on their way
            raise
        failpoints.hit(failpoints.STATE_SAVED, str(saved.step))
        jsonio.write_json(io.out / "checkpoint.json", {"step": saved.step, "digest": saved.digest})
        return {**described(saved, engine), **_summary(rows, trainer)}


def _opened(
    engine: Engine, live: LiveSession, config: PolicySettings, io: StageIO
) -> tuple[Session, SamplerRef | None]:
    """The session to train, and where the weights are that it begins with."""
    lora = lora_spec_of(config.lora, config.seed)
    if "parent" in io.inputs:
        parent = checkpoint(engine, io.inputs["parent"])
        return live.take(engine, lora, parent), parent.sampler
    live.close()
    if "start" not in io.inputs:
        return engine.open(lora, None), None
    start = checkpoint(engine, io.inputs["start"])
    return engine.open(lora, start.state, optimizer=config.keep_optimiser), start.sampler


def _trainer(
    engine: Engine, config: PolicySettings, course: Course, io: StageIO, session: Session, folder: Path
) -> Trainer:
    encoder, rule_ids = io.context.encoder(), io.context.rulebook.ids
    rubric = Rubric(encoder.wording, encoder.target, rule_ids, config.length_tokens, config.rewards)
    examples = read_examples(io.inputs["split"] / "train.csv")
    return Trainer(course, config, io, engine, session, encoder, rubric, examples, folder)


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
