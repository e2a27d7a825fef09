"""`student:`: the base model, the adapter, what is learned in which steps, and the engine with its settings.

An engine is its settings class, registered under a name, and the Engine that the class opens. Other
distributions add engines through the entry-point group `understudy.engines`.
"""

from __future__ import annotations

import json
import pkgutil
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SerializeAsAny,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from core import engines
from core.config.section import CONTENT, MODEL, ConfigSection, NotInKey, register_settings
from core.engines import Capabilities, Device
from core.registry import Registry

if TYPE_CHECKING:
    from core.engines import Engine


class EngineSettings(ConfigSection):
    """Base class of engine settings. A subclass is registered with `@register_engine`.

    Settings are read whenever a config is, so their module imports no heavy library; the engine does on use.
    """

    packages: ClassVar[tuple[str, ...]] = ()
    """Distributions whose versions the report lists."""

    kind: str = ""
    """The engine's name."""

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What the pipeline may rely on."""

    @abstractmethod
    def open(self, model: str) -> Engine:
        """Return the engine over the base model that `student.model` names. Raises ConfigError."""

    @property
    def device_here(self) -> Device:
        """What the bundle's model computes on when it is compared with the trained one."""
        return Device()

    @classmethod
    def for_server(cls, server: str | None) -> Self:
        """Return settings that open weights which a run saved on `server`; see EngineIdentity."""
        return cls()

    def for_sampling(self) -> Self:
        """Return these settings with those that decide training only at their defaults.

        Scores are keyed by the result, so that a change of these settings does not repeat them.
        """
        defaults = {
            name: info.get_default()
            for name, info in type(self).model_fields.items()
            if any(isinstance(mark, TrainingOnly) for mark in info.metadata)
        }
        return self.model_copy(update=defaults)

    def key_extras(self) -> dict[str, Any]:
        """Return what identifies the code of an engine that is not built in."""
        code = ENGINES.provenance(self.kind)
        return {"code": code} if code else {}


@dataclass(frozen=True)
class TrainingOnly:
    """Marks an engine setting that does not affect scores and completions, with the reason."""

    reason: str


ENGINES: Registry[type[EngineSettings]] = Registry(
    "engine",
    "understudy.engines",
    [f"core.engines.{m.name}" for m in pkgutil.iter_modules(engines.__path__) if m.ispkg],
)
"""The settings class of each engine by its name. Every package in core/engines registers its own."""
_Settings = TypeVar("_Settings", bound=EngineSettings)


def register_engine(name: str) -> Callable[[type[_Settings]], type[_Settings]]:
    """Register an engine by the class of its settings.

    A user selects it with `student: {engine: {kind: <name>, ...}}`, or `engine: <name>` for its defaults.
    """
    return register_settings(ENGINES, "kind", name)


class _Registered:
    """Validates `engine:` against the registered engines, which are imported with the first config."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_before_validator_function(self.selected, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """One variant for each engine."""
        return {"anyOf": [handler(engine.__pydantic_core_schema__) for _, engine in ENGINES.items()]}

    @staticmethod
    def selected(value: Any, info: core_schema.ValidationInfo) -> Any:
        """Return the settings of the engine that a name, or a mapping with `kind:`, selects."""
        if isinstance(value, str):
            value = {"kind": value}
        if not isinstance(value, dict):
            return value
        engine = ENGINES.get(value.get("kind", "local"))
        if info.mode == "json":  # in which types are strict, and a list is a tuple
            return engine.model_validate_json(json.dumps(value), strict=True)
        return engine.model_validate(value)


EngineChoice = Annotated[SerializeAsAny[EngineSettings], _Registered()]


class LoraConfig(ConfigSection):
    """The adapter (Hu et al. 2021, LoRA)."""

    rank: int = Field(32, ge=1)
    """Rank of the update."""
    alpha: float = Field(32.0, gt=0)
    """The update is scaled by alpha / rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the adapter's input."""
    mlp: bool = True
    """Adapt the feed-forward layers."""
    attention: bool = True
    """Adapt the attention's projections."""
    unembed: bool = False
    """Adapt the output layer; off, since some servers cannot load such adapters."""

    @model_validator(mode="after")
    def _something_to_train(self) -> LoraConfig:
        if not (self.mlp or self.attention or self.unembed):
            raise ValueError("mlp, attention and unembed are all off: nothing would be trained")
        return self


class TokenWeights(ConfigSection):
    """Plain weights for tokens, instead of `label_share`."""

    label: float = Field(1.0, gt=0)
    """Weight of each token of the label block."""
    reasoning: float = Field(1.0, ge=0)
    """Weight of each other token of the completion."""


class AdamConfig(ConfigSection):
    """The optimizer (Loshchilov & Hutter 2019, AdamW)."""

    beta1: float = Field(0.9, ge=0, lt=1)
    """Decay of the gradient's mean."""
    beta2: float = Field(0.95, ge=0, lt=1)
    """Decay of the gradient's square."""
    eps: float = Field(1e-8, gt=0)
    """Added to the root."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay."""
    grad_clip_norm: float = Field(1.0, ge=0)
    """Largest global norm of the gradient; 0 does not clip."""


MOVED = {
    "device": "device",
    "train_dtype": "train_dtype",
    "threads": "threads",
    "tinker_base_url": "base_url",
    "checkpoint_ttl_days": "checkpoint_ttl_days",
    "outstanding": "max_concurrent_requests",
    "overlap": "overlap",
    "prices": "prices",
    "local_model": "local_model",
}
"""Keys of `student:` in version 0.1 that are keys of `student.engine:` now."""


class StudentConfig(ConfigSection):
    """The base model, the adapter, what is learned and in which steps."""

    engine: EngineChoice = Field("local", json_schema_extra={"default": {"kind": "local"}})  # type: ignore[assignment]
    """An engine's name, or a mapping with `kind:` and its settings. local: torch in this process; tinker: the
    Tinker service, or a server that speaks its protocol."""
    model: Annotated[str, CONTENT, MODEL] = "Qwen/Qwen3-8B"
    """Base model: hub id, folder, .gguf file, or `package://<distribution>/<path as it lists it>`; with
    an engine on a server, the server's name for it."""
    tokenizer: Annotated[str | None, CONTENT, MODEL] = None
    """Where the tokenizer is, if not with the model: a folder, hub id or package:// as for a model. By
    default, an engine on a server takes the one on the hub under the model's name."""
    chat_template_args: dict[str, Any] = {}
    """Extra arguments of the chat template, for instance enable_thinking: false."""
    template_date: Annotated[str, AfterValidator(lambda day: date.fromisoformat(day).isoformat())] = (
        "2024-07-26"
    )
    """The day ("YYYY-MM-DD", in quotes) given to chat templates that ask for the present one, in training,
    evaluation and predictions alike. The default is the one that Llama 3's template falls back to."""
    target: Literal["label_only", "label_first", "reason_first"] = "label_first"
    """label_only: `<label>1</label>`; label_first: the label, then the reason; reason_first: the
    reason, then the label."""
    rulebook: bool = False
    """Show the rulebook in the student's prompt; off, the student has to learn it."""
    rationales: Literal["own", "shuffled"] = "own"
    """shuffled: each text is paired with the rationale of another text of its gold label, by the config's
    `seed`. A control: what a student gains from rationales of its own texts, it does not gain from these."""
    max_length: int = Field(2048, ge=16)
    """Longest prompt and completion together, in tokens; longer texts are cut and counted."""
    min_text_share: float = Field(0.25, ge=0, le=1)
    """Drop a sample whose answer leaves less than this share of its text, of the tokens that fit in next to
    the label alone. Dropped samples are counted in the encode stage's summary. 0 keeps all."""
    label_share: float | None = Field(None, gt=0, le=1)
    """Share of an example's loss that the label block bears (by default .5), the reasoning the rest."""
    token_weights: TokenWeights | None = None
    """Plain token weights instead of label_share; an example's loss is then their weighted mean."""
    lora: LoraConfig = LoraConfig()
    """The adapter."""
    epochs: float | None = Field(None, gt=0)
    """Passes over the accepted samples, by default 3; a part of an epoch is allowed."""
    steps: int | None = Field(None, ge=1)
    """Optimizer steps, instead of epochs."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Seeds of the adapter's start and of the order of batches; by default the config's `seed`. The first
    one's student is published, chosen before anything was measured; each other one is a run of its own,
    `<run>-seed<n>`, and the report gives their spread."""
    batch_size: int = Field(16, ge=1)
    """Examples a step."""
    batches: Literal["stratified", "random"] = "stratified"
    """stratified: every batch has the classes in the ratio of all samples, as near as it goes."""
    learning_rate: float = Field(2e-4, gt=0)
    """Largest learning rate."""
    schedule: Literal["linear", "constant"] = "linear"
    """linear: falls from the first step after the warm-up to min_lr_ratio at the last."""
    min_lr_ratio: float = Field(0.1, ge=0, le=1)
    """Learning rate of the last step, as a share of the largest."""
    warmup_steps: int = Field(0, ge=0)
    """Steps in which the learning rate rises from nearly nothing to the largest."""
    adam: AdamConfig = AdamConfig()
    """The optimizer's settings."""
    parity_rows: int = Field(16, ge=1)
    """Rows of val on which a downloaded adapter, and the bundle once it is opened again, are compared with
    the trained model."""
    save_every: Annotated[int, NotInKey("segments are keyed by their own steps")] = Field(0, ge=0)
    """Also save every so many steps between evaluations; 0 saves at evaluations only."""

    @model_validator(mode="after")
    def _contradictions(self) -> StudentConfig:
        if self.steps is not None and self.epochs is not None:
            raise ValueError("epochs and steps both say how long to train; give one")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds names one of {list(self.seeds)} twice")
        if self.token_weights is not None and self.label_share is not None:
            raise ValueError("label_share and token_weights both weigh the loss; give one")
        if self.rationales == "shuffled" and self.target == "label_only":
            raise ValueError(
                "rationales are shuffled, but target label_only learns none; give one of the two"
            )
        return self


def from_first_version(student: Mapping[str, Any]) -> dict[str, Any]:
    """Return a `student:` section that version 0.1 recorded, with the engine's keys where they are now.

    Version 0.1 recorded the keys of both engines; those of the other engine are left out.
    """
    kind = student.get("engine", "local")
    fields = ENGINES.get(kind).model_fields
    engine = {MOVED[k]: value for k, value in student.items() if k in MOVED and MOVED[k] in fields}
    return {**{k: v for k, v in student.items() if k not in MOVED}, "engine": {"kind": kind, **engine}}


if TYPE_CHECKING:
    from core.engines import Engine
