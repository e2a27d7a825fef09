"""The stages of reinforcement: segments that sample, reward and learn, and rewards on val."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from core import jsonio
from core.config import Config
from core.data.writing import read_examples
from core.pipeline.phases import RL
from core.pipeline.workbench import Workbench
from core.rl import reward_stage, segment
from core.rl.learning import Course, PolicySlice
from core.rl.reward_stage import RewardRun, RewardSlice
from core.rl.segment import PolicyRun
from core.stages import Stage
from core.store.manifest import Manifest
from core.student import plan
from core.student.encoding import EncodeSlice
from core.student.plan import PlannedSegment, PlannedStep
from core.student.segment import LiveSession, after_commit


class Reinforcing:
    """Builds them for one run."""

    def __init__(self, config: Config, bench: Workbench, live: LiveSession) -> None:
        self.config, self.bench, self._live = config, bench, live

    def plan(self, texts: Path) -> list[PlannedStep]:
        """The steps over the train texts of a split, which lies in the folder `texts`."""
        examples = read_examples(texts / "train.csv")
        hashes = [jsonio.digest([e.id, e.text, e.label]) for e in examples]
        labels = [e.label for e in examples]
        return plan.plan(self.config.reinforce, self.config.training_seed, labels, hashes)

    def segments(self, steps: Sequence[PlannedStep]) -> list[PlannedSegment]:
        """Where it stops to save and to evaluate."""
        config = self.config.reinforce
        return plan.segments(len(steps), config.interval, config.save_every)

    def reinforce(
        self,
        part: PlannedSegment,
        steps: Sequence[PlannedStep],
        split: Manifest,
        parent: Manifest | None,
        start: Manifest | None,
    ) -> Stage:
        """One segment, from its parent, or as the first from `start`; without either from the base model."""
        config, student, own = self.config.reinforce, self.config.student, steps[part.start : part.stop]
        begin = {"parent": parent} if parent is not None else {"start": start}
        inputs = {"split": split, **begin, "reference": start if config.kl else None}
        content = {
            **self.bench.student_content(),
            "rule_ids": jsonio.digest(list(self.bench.rulebook.ids)),
            "first_step": str(part.start),
            **plan.content(own),
        }
        return Stage(
            segment.NAME,
            segment.VERSION,
            PolicySlice.of(
                config,
                engine=student.engine,
                seed=self.config.training_seed,
                lora=student.lora,
                adam=student.adam,
                prompt=EncodeSlice.of(student),
            ),
            content,
            {name: manifest for name, manifest in inputs.items() if manifest is not None},
            PolicyRun(
                lambda: self.bench.engine,
                self.bench.encoder,
                lambda: self.bench.rulebook.ids,
                self._live,
                Course(
                    own,
                    plan.steps_per_epoch(config, sum(split.summary["labels"]["train"].values())),
                    len(steps),
                ),
            ),
            slot=f"reinforce/{part.stop}",
            label=f"reinforce steps {part.start + 1} to {part.stop} of {len(steps)}",
            on_commit=after_commit(self._live),
        )

    def reward(self, split: Manifest, checkpoint: Manifest | None, step: int) -> Stage:
        """What the greedy answers of a checkpoint, or of the base model, earn on rows of val."""
        config, student = self.config.reinforce, self.config.student
        part = RewardSlice(
            engine=student.engine.for_sampling(),
            prompt=EncodeSlice.of(student),
            rows=config.reward_rows,
            max_new_tokens=config.max_new_tokens,
            rewards=config.rewards,
            length_tokens=config.length_tokens,
            seed=self.config.seed,
        )
        content = {
            **self.bench.student_content(),
            "rule_ids": jsonio.digest(list(self.bench.rulebook.ids)),
        }
        return Stage(
            reward_stage.NAME,
            reward_stage.VERSION,
            part,
            content,
            {"split": split} if checkpoint is None else {"split": split, "checkpoint": checkpoint},
            RewardRun(lambda: self.bench.engine, self.bench.encoder, lambda: self.bench.rulebook.ids),
            slot=f"reward/{RL.slot}{step}",
            label=f"reward RL step {step} on val",
        )
