"""`student.engine:`: which engine trains and samples, with that engine's settings.

An engine is its settings class, registered under a name, and the Engine that the class opens. Other
distributions add engines through the entry-point group `understudy.engines`.
"""

from __future__ import annotations

import json
import pkgutil
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, TypeVar

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, SerializeAsAny
from pydantic_core import CoreSchema, core_schema

from core import engines
from core.config.base import ConfigSection, register_settings
from core.engines import Capabilities, Device
from core.registry import Registry, UnknownNameError

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
        return core_schema.with_info_before_validator_function(_settings, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """One variant for each engine."""
        return {"anyOf": [handler(engine.__pydantic_core_schema__) for _, engine in ENGINES.items()]}


EngineChoice = Annotated[SerializeAsAny[EngineSettings], _Registered()]


def _settings(value: Any, info: core_schema.ValidationInfo) -> Any:
    """Return the settings of the engine that a name, or a mapping with `kind:`, selects."""
    if isinstance(value, str):
        value = {"kind": value}
    if not isinstance(value, dict):
        return value
    kind = value.get("kind", "local")
    try:
        engine = ENGINES.get(kind)
    except UnknownNameError as error:
        raise ValueError(str(error)) from None
    if info.mode == "json":  # in which types are strict, and a list is a tuple
        return engine.model_validate_json(json.dumps(value), strict=True)
    return engine.model_validate(value)
