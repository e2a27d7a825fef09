"""Each stage of a run as a Stage: its slice of the config, what its paths hold, what it reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.completions.budget import price_of
from core.completions.client import api_key
from core.config import Config
from core.data import stage as data_stage
from core.engines.base import Capabilities
from core.errors import ConfigError, UserError
from core.pipeline.measuring import Measuring
from core.pipeline.reinforcing import Reinforcing
from core.pipeline.workbench import Workbench
from core.records import SplitName
from core.rejection import stage as rejection_stage
from core.stageio import StageIO
from core.stages import Stage
from core.store.manifest import Manifest
from core.student import plan, segment
from core.student import stage as encode_stage
from core.student.plan import PlannedSegment, PlannedStep
from core.teacher import stage as teacher_stage
from core.teacher.live import LiveTeacher, OpenJournal


class Pipeline:
    """Builds the stages of one run. Holds the live training session, which is no ingredient."""

    def __init__(self, config: Config, journal: OpenJournal | None = None) -> None:
        """`journal` opens the journal of the run's root, which a live teacher needs to be asked."""
        self.config, self._journal = config, journal
        self.bench = Workbench(config)
        self.measuring = Measuring(config, self.bench)
        self.live = segment.LiveSession()
        self.reinforcing = Reinforcing(config, self.bench, self.live)

    def split(self) -> Stage:
        """Read the data and split it."""
        part = data_stage.SplitSlice(seed=self.config.seed, data=self.config.data)
        return Stage(data_stage.NAME, data_stage.VERSION, part, data_stage.content(part), {}, data_stage.run)

    def sample(self, split: Manifest, name: SplitName = "train") -> Stage:
        """Get the teacher's answers to the texts of a split; only those to train are learnt from."""
        part = self._sample_slice(name)
        return Stage(
            teacher_stage.NAME,
            teacher_stage.VERSION,
            part,
            teacher_stage.content(part),
            {"split": split},
            self._sample,
            slot="" if name == "train" else f"{teacher_stage.NAME}/{name}",
            label="" if name == "train" else f"the teacher labels {name}",
        )

    def _sample_slice(self, split: SplitName = "train") -> teacher_stage.SampleSlice:
        config = self.config
        return teacher_stage.SampleSlice(
            teacher=config.teacher,
            rules=config.rules,
            prompts=config.prompts,
            positive=config.data.positive,
            negative=config.data.negative,
            split=split,
        )

    def _sample(self, part: teacher_stage.SampleSlice, io: StageIO) -> dict[str, Any]:
        """Before any answer is asked for: does the student's prompt have room for a text at all?"""
        self.bench.check_room()
        return teacher_stage.run(part, io, self._journal)

    def reject(self, split: Manifest, sample: Manifest) -> Stage:
        """Keep the answers worth learning."""
        config = self.config
        part = rejection_stage.RejectSlice(
            rejection=config.rejection,
            rules=config.rules,
            keep=config.teacher.keep,
            positive=config.data.positive,
            negative=config.data.negative,
        )
        return Stage(
            rejection_stage.NAME,
            rejection_stage.VERSION,
            part,
            rejection_stage.content(part),
            {"split": split, "sample": sample},
            rejection_stage.run,
        )

    def encode(self, reject: Manifest) -> Stage:
        """Turn accepted samples into tokens and weights."""
        return Stage(
            encode_stage.NAME,
            encode_stage.VERSION,
            encode_stage.EncodeStageSlice.for_training(self.config.student, self.config.seed),
            self.bench.token_content(),
            {"reject": reject},
            encode_stage.EncodeRun(self.bench.encoder),
        )

    def live_teacher(self, journal: OpenJournal, split: SplitName = "train") -> LiveTeacher | None:
        """The teacher as it is asked about a split, where it is a live one."""
        if self.config.teacher.kind != "openai":
            return None
        teacher = teacher_stage.open_teacher(self._sample_slice(split), journal)
        assert isinstance(teacher, LiveTeacher)
        return teacher

    def check_files(self) -> None:
        """Find what is missing of the files that the config names, as far as that takes no time."""
        data_stage.content(data_stage.SplitSlice(seed=self.config.seed, data=self.config.data))
        teacher_stage.content(self._sample_slice())
        for label_only in (False, True):
            self.bench.frame(label_only=label_only)

    def preflight(self, *, online: bool = True) -> None:
        """Find what is missing before anything is done or paid for: model, rules, prompts, key, price.

        Keys are needed only if `online`; the engine then checks its server too.
        """
        if self.config.teacher.kind == "openai":
            if online:
                api_key(self.config.teacher.endpoint)
            price_of(self.config.teacher.endpoint)
        self.bench.student_content()
        for label_only in (False, True):
            self.bench.frame(label_only=label_only)
        engine = self.bench.engine
        check_capabilities(engine.capabilities, self.config)
        _ = engine.price  # reads the table
        if online:
            engine.check(segment.lora_spec_of(self.config.student.lora, self.config.training_seed))

    def missing_keys(self) -> list[str]:
        """What is wrong with each key that a run needs, as sentences; a plan needs none."""
        found = []
        try:
            if self.config.teacher.kind == "openai":
                api_key(self.config.teacher.endpoint)
        except UserError as e:
            found.append(str(e))
        try:
            self.bench.engine.require_credentials()
        except UserError as e:
            found.append(str(e))
        return found

    @property
    def capabilities(self) -> Capabilities:
        """What the engine can do, and what it needs of the pipeline."""
        return self.config.student.engine.capabilities

    def checkpoint_exists(self, folder: Path) -> bool:
        """Whether a segment's checkpoint is still there; `folder` holds the segment's files."""
        engine = self.bench.engine
        return engine.checkpoint_exists(segment.checkpoint(engine, folder))

    def close(self) -> None:
        """End what is open: the live training session, and a remote engine's session on its server."""
        self.live.close()
        self.bench.close()

    def plan(self, folder: Path) -> list[PlannedStep]:
        """The training steps over the encoded examples in `folder`."""
        encoded = encode_stage.read_set(folder)
        return plan.plan(self.config.student, self.config.training_seed, encoded.labels, encoded.hashes)

    def segments(self, steps: Sequence[PlannedStep]) -> list[PlannedSegment]:
        """Where training stops to save and to evaluate."""
        return plan.segments(len(steps), self.config.evaluation.interval, self.config.student.save_every)

    def train(
        self, part: PlannedSegment, steps: Sequence[PlannedStep], parent: Manifest | None, data: Path
    ) -> Stage:
        """One training segment, from its parent's state; `data` holds the encoded examples."""
        student = self.config.student
        own = steps[part.start : part.stop]
        content = {
            **self.bench.base,
            **plan.content(own),
        }
        return Stage(
            segment.NAME,
            segment.VERSION,
            segment.SegmentSlice(
                engine=student.engine,
                seed=self.config.training_seed,
                lora=student.lora,
                adam=student.adam,
            ),
            content,
            {"parent": parent} if parent else {},
            segment.SegmentRun(
                lambda: self.bench.engine, self.live, own, lambda: encode_stage.read_data(data), len(steps)
            ),
            slot=f"train/{part.stop}",
            label=f"train steps {part.start + 1} to {part.stop} of {len(steps)}",
            on_commit=segment.after_commit(self.live),
        )


def check_capabilities(can: Capabilities, config: Config) -> None:
    """Raise ConfigError if the config needs something that the engine does not do."""
    student = config.student
    if student.adam.grad_clip_norm > 0 and not can.grad_clipping:
        raise ConfigError(
            f"engine {student.engine.kind} does not clip gradients: set student.adam.grad_clip_norm to 0"
        )
