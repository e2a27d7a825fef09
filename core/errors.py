"""One tree of errors, and the record of optional parts whose failure does not end a run.

Each message is a sentence with what happened, where, and how to fix it. Failures of optional parts are
logged, listed in run_summary.json and in both reports, and tried again by the next run. Everything else is
essential: data, accepted samples, training, selection, predictions, decision, export and bundle.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TypeVar

log = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class UnderstudyError(Exception):
    """Any error that this project raises on purpose; `exit_code` is that of the command line."""

    exit_code = 1


class UserError(UnderstudyError, ValueError):
    """Something the user can fix: config, data, rules, prompts. Never worth a retry."""

    exit_code = 2


class ConfigError(UserError):
    """A key that is unknown, has the wrong type, or contradicts another."""


class DataError(UserError):
    """Texts, labels or a split that cannot be used as they are; states file and line."""


class PromptError(UserError):
    """A template or a rules folder that cannot be rendered."""


class AnswersError(UserError):
    """Recorded teacher answers that cannot be read; states file and line."""


class PluginError(UserError):
    """A part from another distribution that cannot be loaded or registered; names both."""


class ModelError(UserError):
    """A base model or tokenizer that is missing or cannot be loaded."""


class MissingInputError(UserError):
    """A stage that is switched off and has no earlier result; names the run and the file."""


class StageError(UnderstudyError, RuntimeError):
    """A stage that ran and cannot continue; earlier results are kept."""


class TeacherError(StageError):
    """A live teacher that cannot continue; its answers are kept and are not requested again."""


class TeacherRefused(TeacherError):
    """The endpoint rejects the credentials, has no money left, or does not know the model."""


class AnswersUnusable(TeacherError, UserError):
    """None of a live teacher's answers names a label; states why and which setting to change."""


class BudgetSpent(TeacherError):
    """The next request could exceed the run's budget of money or tokens."""


class BreakerOpen(TeacherError):
    """The endpoint failed too often, or for too long, to send more requests."""


class RowsFailed(UnderstudyError):
    """Rows with an error, where the command was asked to fail on them; the output is written."""


class StoreError(UnderstudyError, OSError):
    """The artifact store cannot be read or written."""


class PassingError(UnderstudyError, ConnectionError):
    """A failure that may be temporary, so that the task is retried."""


class SessionLost(PassingError):
    """A session on a training server that ended or is corrupt; a new one resumes from the last state."""


class CheckpointGone(StageError):
    """A checkpoint that a server no longer has; an earlier one may still exist."""


class Part(StrEnum):
    """Everything that may fail without losing the student, by the name that reports show."""

    MAJORITY = "Majority class of train"
    TFIDF_WORDS = "TF-IDF words + logistic regression"
    TFIDF_CHARACTERS = "TF-IDF characters + logistic regression"
    EMBEDDING = "Sentence embeddings + logistic regression"
    EMBEDDING_TFIDF = "Sentence embeddings and TF-IDF + logistic regression"
    BASELINES = "Classical baselines"
    ENCODER = "Sentence embeddings"
    UNTRAINED = "Untrained student"
    OTHER_PROMPT = "Untrained student with the other prompt"
    LABEL_ONLY_RUN = "Label-only student of another run"
    START = "Student before reinforcement"
    TEACHER = "Teacher on a split that it labels for comparison"
    COMPARISON = "Comparison with the other scorers"
    SLICES = "Parts of the rows"
    FAITHFULNESS = "Faithfulness of the reasoning"
    EXPLANATIONS = "Explanations of the worst errors"
    HARDNESS = "Texts that were hard for the teacher"
    MERGED = "Merged weights"
    PARITY = "Parity check of the bundle"
    ESTIMATE = "Cost estimate"
    FACTS = "Facts of the report"
    SECTION = "Section of the report"
    PLOT = "Plot"
    PAGE = "Report page"
    FILE = "File of the run folder"
    TRACKER = "Tracker"
    ARTIFACT = "Prefect artifact"


@dataclass(frozen=True, slots=True)
class Failure:
    """An optional part that failed or was impossible: its name, the type of the error, and its message."""

    part: str
    error: str
    message: str


class PartFailed(StageError):
    """An optional part of a stage failed; the stage can be repeated without it, and is not stored."""

    def __init__(self, part: Part, error: str, message: str) -> None:
        super().__init__(part, error, message)
        self.part, self.error, self.message = part, error, message

    def __str__(self) -> str:
        return f"{self.part}: {self.error}: {self.message}"


@contextmanager
def separable(part: Part) -> Iterator[None]:
    """Inside a stage: raise any error of the block as PartFailed, which names the part."""
    try:
        yield
    except PartFailed:
        raise
    except Exception as e:
        raise PartFailed(part, type(e).__name__, str(e) or "no message") from e


class Failures:
    """The optional parts of one run that failed, in the order of their failure; each part once."""

    def __init__(self, never: tuple[type[Exception], ...] = ()) -> None:
        """`never` are exceptions that end a run wherever they are raised, such as a cancellation."""
        self._never = never
        self._found: dict[str, Failure] = {}

    def __iter__(self) -> Iterator[Failure]:
        return iter(tuple(self._found.values()))

    def __len__(self) -> int:
        return len(self._found)

    def __contains__(self, name: str) -> bool:
        return name in self._found

    @contextmanager
    def optional(self, part: Part, detail: str = "") -> Iterator[None]:
        """Record an error of the block, and continue; Ctrl-C, SIGTERM and cancellation pass through."""
        try:
            yield
        except self._never:
            raise
        except Exception as e:  # whatever its type: the student does not depend on this part
            self.note(part, e, detail)

    def attempt(
        self, part: Part, detail: str, make: Callable[[], _Result], otherwise: Callable[[], _Result]
    ) -> _Result:
        """Return `make()`, or `otherwise()` if that fails, which is recorded."""
        try:
            return make()
        except self._never:
            raise
        except Exception as e:  # as in `optional`
            self.note(part, e, detail)
            return otherwise()

    def note(self, part: Part, error: BaseException, detail: str = "") -> None:
        """Record a failure and log a warning with its cause; the traceback goes to train.log and --debug."""
        kind, message = type(error).__name__, str(error) or "no message"
        if isinstance(error, PartFailed):
            kind, message = error.error, error.message
        failure = Failure(named(part, detail), kind, message)
        if self.add(failure):
            text = "optional part left out: %s: %s: %s; the run continues without it"
            log.warning(text, failure.part, kind, message, exc_info=error)

    def add(self, failure: Failure) -> bool:
        """Record a failure that is logged elsewhere; return whether it is new."""
        new = self._found.get(failure.part) != failure
        self._found[failure.part] = failure
        return new

    def to_json(self) -> list[dict[str, str]]:
        """Return the list in run_summary.json."""
        return [asdict(failure) for failure in self]


def strict() -> Failures:
    """Return a record for a caller that wants every failure raised."""
    return Failures(never=(Exception,))


def named(part: Part, detail: str = "") -> str:
    """Return the name of a part in reports; `detail` distinguishes parts of one kind."""
    return f"{part}: {detail}" if detail else str(part)


CLASSICAL: Mapping[str, Part] = {
    "majority": Part.MAJORITY,
    "tfidf_words": Part.TFIDF_WORDS,
    "tfidf_chars": Part.TFIDF_CHARACTERS,
    "embedding": Part.EMBEDDING,
    "embedding_tfidf": Part.EMBEDDING_TFIDF,
}
"""The classical baselines by their name in files."""
