"""Turn a written policy and labeled texts into a small model that applies the policy.

    >>> import understudy
    >>> student = understudy.load("out/runs/quickstart")  # doctest: +SKIP
    >>> student(["You have won a prize, call now"])[0].label  # doctest: +SKIP
    'spam'

Importing this package loads neither torch nor Prefect: each name is imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from understudy.installation import check_packages

check_packages()

if TYPE_CHECKING:
    from core.config import Config
    from core.config.loading import load as load_config
    from core.errors import StageError, UnderstudyError, UserError
    from core.pipeline.run import run
    from core.predict.student import Prediction, Student, load

__all__ = [
    "Config",
    "Prediction",
    "StageError",
    "Student",
    "UnderstudyError",
    "UserError",
    "load",
    "load_config",
    "run",
]

_SOURCES = {
    "Config": ("core.config", "Config"),
    "Prediction": ("core.predict.student", "Prediction"),
    "StageError": ("core.errors", "StageError"),
    "Student": ("core.predict.student", "Student"),
    "UnderstudyError": ("core.errors", "UnderstudyError"),
    "UserError": ("core.errors", "UserError"),
    "load": ("core.predict.student", "load"),
    "load_config": ("core.config.loading", "load"),
    "run": ("core.pipeline.run", "run"),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata

        return metadata.version("understudy-distill")
    if name not in _SOURCES:
        raise AttributeError(f"module 'understudy' has no attribute {name!r}")
    module, attribute = _SOURCES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
