"""Using a student: `core.predict.load(model)(texts)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.predict.loaded_student import Prediction, Student, load

__all__ = ["Prediction", "Student", "load"]


def __getattr__(name: str) -> Any:
    """Import the student at its first use: it takes seconds, and the options of predictions are here too."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from core.predict import loaded_student

    return getattr(loaded_student, name)
