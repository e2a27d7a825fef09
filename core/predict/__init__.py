"""Using a student: `core.predict.load(model)(texts)`."""

from core.predict.student import Prediction, Student, load

__all__ = ["Prediction", "Student", "load"]
