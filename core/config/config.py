"""The config of a run: `run:`, `data:`, `stages:` and all other sections; its values with their origins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, Field, PrivateAttr, model_validator

from core.config.measure import (
    BaselinesConfig,
    EvaluationConfig,
    ExportConfig,
    ReinforceConfig,
    TrackersConfig,
)
from core.config.rejection import RejectionConfig
from core.config.section import ANYWHERE, CONTENT, ConfigSection, KeyPath, NotInKey, walk, written
from core.config.student import StudentConfig
from core.config.teacher import PromptsConfig, RulesConfig, TeacherConfig
from core.records import LabelSet

DEFAULT = "default"
"""The origin of a value that nobody gave."""


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


class SplitFiles(ConfigSection):
    """Three files, one per split."""

    train: Annotated[str, CONTENT]
    """The texts the student learns from."""
    val: Annotated[str, CONTENT]
    """The texts everything is selected on."""
    test: Annotated[str, CONTENT]
    """The texts that are read once, at export."""


class SplitSizes(ConfigSection):
    """How large the made splits are: shares of the rows (that add up to 1), or counts."""

    train: float = Field(0.70, gt=0)
    """Share (below 1) or number of rows; the three are all shares or all counts."""
    val: float = Field(0.15, gt=0)
    """As `train`."""
    test: float = Field(0.15, gt=0)
    """As `train`."""

    @model_validator(mode="after")
    def _all_shares_or_all_counts(self) -> SplitSizes:
        sizes = (self.train, self.val, self.test)
        if all(s < 1 for s in sizes):
            if abs(sum(sizes) - 1) > 1e-6:
                raise ValueError(f"shares must add up to 1; these add up to {sum(sizes):g}")
        elif not all(s >= 1 and s == int(s) for s in sizes):
            raise ValueError("give three shares below 1, or three whole numbers of rows")
        return self


class NearDuplicates(ConfigSection):
    """Families of near-duplicate texts, which stay in one split."""

    enabled: bool = True
    """Search for families before a split is made."""
    threshold: float = Field(0.8, gt=0, le=1)
    """The Jaccard similarity of their shingles from which texts belong to one family."""
    shingle: int = Field(5, ge=1)
    """Length of a shingle, in characters of the lower-cased text with single spaces."""
    giant: float = Field(0.05, gt=0, le=1)
    """A family of more than this share of all rows is reported as giant."""


class DataConfig(ConfigSection):
    """Where the texts are, what the columns mean, and how the splits are made."""

    path: Annotated[str | None, CONTENT] = None
    """One table: a path, an fsspec URL, or `package://<distribution>/<path as it lists it>`."""
    files: SplitFiles | None = None
    """Three tables, one per split, instead of `path`."""
    dir: Annotated[str | None, CONTENT] = None
    """A folder with the three tables as `<name>/<name>_<split>.csv`, `<name>/<split>.csv`,
    `<name>_<split>.csv` or `<split>.csv` (valid and validation are read as val), instead of `path`."""
    name: str = "dataset"
    """The dataset's name, used to find files under `dir`."""
    format: Literal["auto", "csv", "tsv", "jsonl", "parquet"] = "auto"
    """`auto`: by the file's ending, before .gz and the like."""
    encoding: str = "utf-8"
    """Text encoding of CSV, TSV and JSON lines; a byte order mark is skipped, and refused where it
    contradicts the encoding."""
    separator: str | None = Field(None, min_length=1, max_length=1)
    """Column separator of CSV; by default a comma, for TSV a tab."""
    quotes: bool = True
    """Whether double quotes enclose fields of CSV and TSV, of up to 1,000 lines; false for exports that
    use none."""
    text_column: str = "text"
    """The column of the text."""
    label_column: str = "label"
    """The column of the label."""
    id_column: str | None = None
    """The column of the id; by default the id is a hash of the stripped text."""
    group_column: str | None = None
    """Rows with the same value here (an author, a thread) stay in one split."""
    split_column: str | None = None
    """The column with train, val or test, if the table is already split."""
    split_file: Annotated[str | None, CONTENT] = None
    """A CSV of id,split; rows that it does not name are left out and counted."""
    positive: tuple[str, ...] = ("1", "true", "yes", "positive")
    """Names of the positive class in the label column; upper and lower case are one."""
    negative: tuple[str, ...] = ("0", "false", "no", "negative")
    """Names of the negative class in the label column."""
    label_threshold: float | None = None
    """For numeric labels: positive from this value on, whatever numbers are in the names above."""
    max_bad_rows: int = Field(0, ge=0)
    """Rows that cannot be used before the run stops: no text, NULs or undecodable bytes in it, more fields
    than the header, a quote that does not close, a label outside the map."""
    sizes: SplitSizes = SplitSizes()
    """Sizes of the splits, if they are made here."""
    near_duplicates: NearDuplicates = NearDuplicates()
    """Families kept together, if the splits are made here."""
    duplicates: Literal["drop", "keep", "error"] = "drop"
    """Rows of the same text and label in one split (or table): keep the first, all, or stop."""
    conflicts: Literal["drop", "keep", "error"] = "drop"
    """Texts with both labels: drop all their rows, keep them, or stop."""
    leaks: Literal["error", "drop", "keep"] = "error"
    """Texts shared between given splits: stop, drop them from train (then val), or keep."""
    max_train_examples: int = Field(0, ge=0)
    """The most rows of train, stratified by label; 0 takes all."""
    max_val_examples: int = Field(0, ge=0)
    """The most rows of val; 0 takes all."""
    max_test_examples: int = Field(0, ge=0)
    """The most rows of test; 0 takes all."""

    @property
    def labels(self) -> LabelSet:
        """The labels with their values in the label column."""
        return LabelSet.binary(self.positive, self.negative)

    @model_validator(mode="after")
    def _one_source(self) -> DataConfig:
        given = [k for k in ("path", "files", "dir") if getattr(self, k) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of path, files and dir; {given or 'none'} given")
        if self.path is None and (self.split_column or self.split_file):
            raise ValueError("split_column and split_file belong to one table, given as path")
        if self.split_column and self.split_file:
            raise ValueError("split_column and split_file both give the split; keep one")
        both = {p.casefold() for p in self.positive} & {n.casefold() for n in self.negative}
        if both:
            raise ValueError(f"{sorted(both)} are in positive and in negative")
        if not self.positive or not self.negative:
            raise ValueError("positive and negative each need at least one name")
        return self


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


def render(resolved: ResolvedConfig) -> str:
    """YAML text that loads to the same config. Each value is followed by `# <origin>`."""
    lines = ["# The resolved config of this run; the comment gives the origin of each value."]
    lines += _section(resolved.config, (), resolved.origins)
    return "\n".join(lines) + "\n"


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
