"""The config of a run: all sections, values with their origins, as YAML, and differences of two configs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, PrivateAttr, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from core import locations
from core.config.data import DataConfig
from core.config.measure import (
    BaselinesConfig,
    EvaluationConfig,
    ExportConfig,
    ReinforceConfig,
    TrackersConfig,
)
from core.config.rejection import RejectionConfig
from core.config.section import ANYWHERE, ConfigSection, NotInKey
from core.config.student import StudentConfig
from core.config.teacher import PromptsConfig, RulesConfig, TeacherConfig
from core.errors import UserError

KeyPath = tuple[str, ...]
DEFAULT = "default"
"""The origin of a value that nobody gave."""
_ABSENT = "nothing"


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


@dataclass(frozen=True, slots=True)
class ResolvedConfig:
    """The config of a run; `origins` gives the origin of each value by its key path."""

    config: Config
    origins: Mapping[KeyPath, str]

    @property
    def run_name(self) -> str:
        """The name of the run's folder and pointer."""
        assert self.config.run.name is not None
        return self.config.run.name

    def as_parameter(self) -> Config:
        """The config for a parameter of a Prefect flow, from which `from_parameter` restores the origins."""
        found = _WithOrigins.model_construct(self.config.model_fields_set, **dict(self.config))
        found._origins = self.origins
        return found

    @classmethod
    def from_parameter(cls, config: Config, origin: str) -> ResolvedConfig:
        """The config that a flow was called with. Values that came as plain data get `origin`."""
        if isinstance(config, _WithOrigins):
            plain = Config.model_construct(config.model_fields_set, **dict(config))
            return cls(plain, config._origins)
        return cls(config, {key: origin for key, _, _ in walk(config)})


class _WithOrigins(Config):
    """A config on its way through Prefect, whose parameters have no place for the origins."""

    _origins: Mapping[KeyPath, str] = PrivateAttr()


def walk(
    section: BaseModel, at: KeyPath = (), included: Callable[[FieldInfo], bool] = lambda info: True
) -> Iterator[tuple[KeyPath, FieldInfo, Any]]:
    """Every key path of a section object that has a value and not a section, with the field and the value.

    Fields and whole sections that are not `included` are left out.
    """
    for name, info in type(section).model_fields.items():
        if not included(info):
            continue
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from walk(value, (*at, name), included)
        else:
            yield (*at, name), info, value


def render(resolved: ResolvedConfig) -> str:
    """YAML text that loads to the same config. Each value is followed by `# <origin>`."""
    lines = ["# The resolved config of this run; the comment gives the origin of each value."]
    lines += _section(resolved.config, (), resolved.origins)
    return "\n".join(lines) + "\n"


def written(value: Any) -> str:
    """One value as YAML on one line."""
    if isinstance(value, str):
        return yaml.safe_dump(value, allow_unicode=True, width=10**9).removesuffix("\n...\n").strip()
    return json.dumps(value, ensure_ascii=False, default=lambda model: model.model_dump(mode="json"))


def differences(before: BaseModel, after: BaseModel) -> list[str]:
    """`key: before -> after` for each field that differs, except places, names and logging.

    Spellings of one location (`rules`, `./rules/`) do not differ.
    """

    def shown(value: Any) -> str:
        text = value if isinstance(value, str) else repr(value)
        return text if len(text) <= 80 else f"{text[:77]}..."

    old, new = _deciding(before), _deciding(after)
    keys = [*new, *(key for key in old if key not in new)]
    pairs = ((key, old.get(key, _ABSENT), new.get(key, _ABSENT)) for key in keys)
    return [f"{key}: {shown(one)} -> {shown(other)}" for key, one, other in pairs if one != other]


def _section(section: BaseModel, at: KeyPath, origins: Mapping[KeyPath, str]) -> list[str]:
    indent, lines = "  " * len(at), list[str]()
    for name in type(section).model_fields:
        value, key = getattr(section, name), (*at, name)
        if isinstance(value, BaseModel):
            # The bare name of a section without values would be null.
            if inner := _section(value, key, origins):
                lines += [f"{indent}{name}:", *inner]
        elif value is not None or origins[key] != DEFAULT:
            # Unset alternatives such as steps/epochs contradict each other if both are written.
            lines.append(f"{indent}{name}: {written(value)}  # {origins[key]}")
    return lines


def _deciding(section: BaseModel) -> dict[str, Any]:
    """The fields that can affect results, by dotted key; locations normalized."""

    def marks(info: FieldInfo) -> list[NotInKey]:
        return [mark for mark in info.metadata if isinstance(mark, NotInKey)]

    found = {}
    for key, info, value in walk(section, (), lambda info: all(mark.by_content for mark in marks(info))):
        if value is not None:
            plain = to_jsonable_python(value)
            if marks(info) and isinstance(plain, str):
                with suppress(UserError):
                    plain = locations.normalized(plain)
            found[".".join(key)] = plain
    return found
