"""One tree of errors. Each message is a sentence with what happened, where, and how to fix it."""

from __future__ import annotations


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
