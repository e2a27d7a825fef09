"""The configuration of a run: frozen models, read from YAML or JSON."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from core.config.base import ANYWHERE, ConfigSection, NotInKey
from core.config.data import DataConfig
from core.config.measure import BaselinesConfig, EvaluationConfig, ExportConfig, TrackersConfig
from core.config.reinforce import ReinforceConfig
from core.config.rejection import RejectionConfig
from core.config.student import StudentConfig
from core.config.teacher import PromptsConfig, RulesConfig, TeacherConfig

__all__ = ["Config", "ConfigSection", "PromptsConfig", "RunConfig", "StagesConfig", "StudentConfig"]


class RunConfig(ConfigSection):
    """The name of the run and the place of its files."""

    name: Annotated[str | None, NotInKey("a name")] = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The run's name; by default the config file's name without its ending."""
    root: Annotated[str, NotInKey("a place"), ANYWHERE] = "artifacts"
    """The place of all files: a folder, or s3://bucket/prefix."""
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], NotInKey("log settings")] = "INFO"
    """How much is logged."""

    @model_validator(mode="after")
    def _latest_is_a_pointer(self) -> RunConfig:
        if self.name in ("latest", "rl_latest"):
            raise ValueError(
                f"run.name {self.name} is what model/{self.name}.json is called; choose another name"
            )
        return self


class StagesConfig(ConfigSection):
    """Which stages run; one that does not takes this run's own earlier result."""

    split: bool = True
    """Read the data and split it."""
    sample: bool = True
    """Get the teacher's answers."""
    reject: bool = True
    """Keep the answers worth learning."""
    encode: bool = True
    """Turn samples into tokens and weights."""
    train: bool = True
    """Train the student."""
    evaluate: bool = True
    """Measure the checkpoints and choose one."""
    export: bool = True
    """Write predictions, metrics and reports."""


class Config(ConfigSection):
    """Everything that decides a run."""

    seed: int = Field(42, ge=0)
    """Decides the split, every draw of rows and, if student.seeds is empty, the training."""
    run: RunConfig = RunConfig()
    """Name and place."""
    data: DataConfig
    """The texts."""
    rules: RulesConfig = RulesConfig()
    """The policy."""
    prompts: PromptsConfig = PromptsConfig()
    """The wording."""
    teacher: TeacherConfig
    """The answers."""
    rejection: RejectionConfig = Field(default_factory=RejectionConfig)
    """Which answers are learned."""
    student: StudentConfig = Field(default_factory=StudentConfig)
    """The model that learns."""
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)
    """How checkpoints are measured."""
    baselines: BaselinesConfig = BaselinesConfig()
    """What the student is compared with."""
    export: ExportConfig = ExportConfig()
    """What is written at the end."""
    reinforce: Annotated[ReinforceConfig, NotInKey("rl_phase/reinforce.json has the one that was used")] = (
        Field(default_factory=ReinforceConfig)
    )
    """What `understudy reinforce` does with the student."""
    publish: Annotated[bool, NotInKey("a switch")] = True
    """Write `model/<run>.json` and `model/latest.json`."""
    stages: Annotated[StagesConfig, NotInKey("switches")] = StagesConfig()
    """Which stages run."""
    trackers: Annotated[TrackersConfig, NotInKey("trackers do not affect results")] = TrackersConfig()
    """Services that receive the run's curves and metrics."""
    teacher_from: Annotated[
        str | None, NotInKey("the content of that run is an ingredient", by_content=True)
    ] = None
    """Take those of split, sample and reject that are switched off from this run under the root."""

    @property
    def longest_reasoning(self) -> int:
        """The most tokens of a reasoning. For reason_first, which it affects, the limit is that of val."""
        first = self.student.target == "reason_first"
        return self.evaluation.max_new_tokens if first else self.export.max_new_tokens

    @property
    def training_seed(self) -> int:
        """The seed of the order of batches and of the adapter's initialization."""
        return self.student.seeds[0] if self.student.seeds else self.seed

    @model_validator(mode="after")
    def _gold_has_no_reasons(self) -> Config:
        if self.teacher.kind == "gold" and self.student.target != "label_only":
            raise ValueError(
                f"teacher.kind gold gives no reasoning, which student.target {self.student.target} "
                "needs; set student.target: label_only"
            )
        return self

    @model_validator(mode="after")
    def _merging_needs_the_base(self) -> Config:
        if self.export.merged is not None and not self.student.engine.capabilities.can_merge:
            raise ValueError(
                "export.merged adds the adapter into the base model, which is on the server: "
                "set student.engine.local_model to the same model on this machine"
            )
        return self
