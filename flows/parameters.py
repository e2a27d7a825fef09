"""What a flow is given: the config as a model, so that Prefect's form shows every field, and a data source.

Whoever loaded the config from a file lends it with the place of each value, which parameters cannot hold.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from contextvars import ContextVar

from core.config import Config
from core.config.loading import ResolvedConfig, held, validate
from core.config.reading import Source
from core.errors import ConfigError

PARAMETER = "flow parameter"
_LENT: ContextVar[ResolvedConfig | None] = ContextVar("lent", default=None)


@contextlib.contextmanager
def lending(resolved: ResolvedConfig) -> Iterator[Config]:
    """The config to call a flow with; within, the flow finds where each value comes from."""
    token = _LENT.set(resolved)
    try:
        yield resolved.config
    finally:
        _LENT.reset(token)


def resolved_of(config: Config, data: str | None = None) -> ResolvedConfig:
    """A flow's config with the origin of each value; `data` takes the place of data.path, dir and files.

    Raises ConfigError where the run has no name, or where the config does not hold with that data.
    """
    lent = _LENT.get()
    if data is None and lent is not None and lent.config == config:
        return lent
    if config.run.name is None:
        raise ConfigError("run.name is missing: a run that is started from parameters needs one")
    found = config if data is None else _on(config, data)
    return ResolvedConfig(found, dict.fromkeys(held(found), PARAMETER))


def _on(config: Config, data: str) -> Config:
    """The config on another table, under a name of its own: a run's name stands for one config."""
    values = config.model_dump(mode="json", exclude_unset=True)
    inner = {k: v for k, v in values["data"].items() if k not in ("path", "dir", "files")}
    values["data"] = {**inner, "path": data}
    values["run"] = {**values.get("run", {}), "name": f"{config.run.name}-{slug(data)}"}
    return validate(values, Source(PARAMETER, values, {}))


def slug(path: str) -> str:
    """What of a path tells tables apart, as part of a run's name: its last part without its endings."""
    last = path.rstrip("/").rpartition("/")[2].split(".")[0]
    return re.sub(r"[^A-Za-z0-9]+", "-", last).strip("-").lower() or "data"
