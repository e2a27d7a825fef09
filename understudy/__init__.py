"""Turn a written policy and labeled texts into a small model that applies the policy.

    >>> import understudy
    >>> result = understudy.run("configs/quickstart.yaml")  # doctest: +SKIP
    >>> result.best_step  # doctest: +SKIP
    75
    >>> student = understudy.load("quickstart")  # doctest: +SKIP
    >>> student(["You have won a prize, call now"])[0].label  # doctest: +SKIP
    '1'

Importing this package loads neither torch nor Prefect: each name is imported on first use.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

_HOME = Path(__file__).resolve().parents[1]
_OTHER_PROJECT = "understudy"
"""A distribution on the package index that is not ours; ours is `understudy-distill`."""


@functools.cache
def check_packages() -> None:
    """Raise ImportError if a package of ours is shadowed or shares its files with another project's.

    Otherwise a folder in the working directory with the name of one of our packages, or the distribution
    `understudy` of another project, which ships a package of this name, ends in a puzzling ImportError.
    """
    for name in ("core", "tasks", "flows"):
        spec = importlib.util.find_spec(name)
        locations = list(spec.submodule_search_locations or []) if spec else []
        if not locations or Path(locations[0]).resolve().parent != _HOME:
            found = locations[0] if locations else "nowhere"
            raise ImportError(
                f"the package {name!r} is taken from {found} and not from {_HOME}: a folder of that "
                "name shadows ours; run from another directory, or rename the folder"
            )
    # Not by importlib.metadata, which would double the time of `--help`.
    if any(any(Path(entry).glob(f"{_OTHER_PROJECT}-*.dist-info")) for entry in sys.path):
        raise ImportError(
            f"the distribution {_OTHER_PROJECT!r} is installed: it is another project, and its package "
            "overwrites files of ours; run `pip uninstall understudy`, then "
            "`pip install --force-reinstall --no-deps understudy-distill`"
        )


check_packages()

if TYPE_CHECKING:
    from core.config import Config, register_engine
    from core.config import metric as register_metric
    from core.config import reward as register_reward
    from core.config import rule as register_rule
    from core.config.loading import load as load_config
    from core.errors import StageError, UnderstudyError, UserError
    from core.pipeline.run import reinforce, run
    from core.predict.loaded_student import LoadedModel, Prediction, Student, load
    from core.report import section as register_section
    from core.results import ReinforcementResult, RunResult
    from core.stage import stage as register_stage

__all__ = [
    "Config",
    "LoadedModel",
    "Prediction",
    "ReinforcementResult",
    "RunResult",
    "StageError",
    "Student",
    "UnderstudyError",
    "UserError",
    "load",
    "load_config",
    "register_engine",
    "register_metric",
    "register_reward",
    "register_rule",
    "register_section",
    "register_stage",
    "reinforce",
    "run",
]

_SOURCES = {
    "Config": ("core.config", "Config"),
    "LoadedModel": ("core.predict.loaded_student", "LoadedModel"),
    "Prediction": ("core.predict.loaded_student", "Prediction"),
    "ReinforcementResult": ("core.results", "ReinforcementResult"),
    "RunResult": ("core.results", "RunResult"),
    "StageError": ("core.errors", "StageError"),
    "Student": ("core.predict.loaded_student", "Student"),
    "UnderstudyError": ("core.errors", "UnderstudyError"),
    "UserError": ("core.errors", "UserError"),
    "load": ("core.predict.loaded_student", "load"),
    "load_config": ("core.config.loading", "load"),
    "register_engine": ("core.config", "register_engine"),
    "register_metric": ("core.config", "metric"),
    "register_reward": ("core.config", "reward"),
    "register_rule": ("core.config", "rule"),
    "register_section": ("core.report.document", "section"),
    "register_stage": ("core.stage", "stage"),
    "reinforce": ("core.pipeline.run", "reinforce"),
    "run": ("core.pipeline.run", "run"),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata

        return metadata.version("understudy-distill")
    if name not in _SOURCES:
        raise AttributeError(f"module 'understudy' has no attribute {name!r}")
    module, attribute = _SOURCES[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
