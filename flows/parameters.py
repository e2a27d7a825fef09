"""Parameters of flows: the config as a model, whose fields Prefect's form shows, and a data source."""

from __future__ import annotations

import re

from core.config import Config
from core.config.loading import ResolvedConfig, validate
from core.config.reading import Source
from core.errors import ConfigError

PARAMETER = "flow parameter"


def resolved_of(config: Config, data: str | None = None) -> ResolvedConfig:
    """A flow's config with the origin of each value; `data` replaces data.path, dir and files.

    Raises ConfigError if the run has no name, or if the config is invalid with that data.
    """
    if config.run.name is None:
        raise ConfigError("run.name is missing: a run that is started from parameters needs one")
    return ResolvedConfig.from_parameter(config if data is None else _on(config, data), PARAMETER)


def _on(config: Config, data: str) -> Config:
    """The config on another table, under a name of its own: a run's name belongs to one config."""
    values = config.model_dump(mode="json", exclude_unset=True)
    inner = {k: v for k, v in values["data"].items() if k not in ("path", "dir", "files")}
    values["data"] = {**inner, "path": data}
    values["run"] = {**values.get("run", {}), "name": f"{config.run.name}-{slug(data)}"}
    return validate(values, Source(PARAMETER, values, {}))


def slug(path: str) -> str:
    """The part of a path that distinguishes tables, for a run's name: its last part without its endings."""
    last = path.rstrip("/").rpartition("/")[2].split(".")[0]
    return re.sub(r"[^A-Za-z0-9]+", "-", last).strip("-").lower() or "data"
