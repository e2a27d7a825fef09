"""One tree of errors. Each message is a sentence that says what happened, where, and what to do."""

from __future__ import annotations


class UnderstudyError(Exception):
    """Anything this project refuses or fails at; `exit_code` is what the command line ends with."""

    exit_code = 1


class UserError(UnderstudyError, ValueError):
    """Something the user can mend: config, data, rules, prompts. Never worth a retry."""

    exit_code = 2


class ConfigError(UserError):
    """A key that is unknown, has the wrong type, or contradicts another."""


class DataError(UserError):
    """Texts, labels or a split that cannot be used as they are; says file and line."""


class PromptError(UserError):
    """A template or a rules folder that cannot be rendered."""


class AnswersError(UserError):
    """Recorded teacher answers that cannot be read; says file and line."""


class PluginError(UserError):
    """A part from another distribution that cannot be loaded or registered; names both."""


class ModelError(UserError):
    """A base model or tokenizer that is missing or cannot be loaded."""


class MissingInputError(UserError):
    """A stage that is switched off, and no earlier result of it; names the run and the file."""


class StageError(UnderstudyError, RuntimeError):
    """A stage that ran and found that it cannot go on; what was earned before stays."""


class TeacherError(StageError):
    """A live teacher that cannot go on; the answers it gave are kept and are not asked again."""


class TeacherRefused(TeacherError):
    """The endpoint does not let us in, has no money left for us, or does not know the model."""


class AnswersUnusable(TeacherError, UserError):
    """No answer that a live teacher gave so far names a label; says why and which setting to change."""


class BudgetSpent(TeacherError):
    """The next request could pass the run's budget of money or tokens."""


class BreakerOpen(TeacherError):
    """The endpoint failed too often, or for too long, to go on asking."""


class RowsFailed(UnderstudyError):
    """Rows that have an error, where the command was told to fail then; the output is written."""


class StoreError(UnderstudyError, OSError):
    """The artifact store cannot be read or written."""


class PassingError(UnderstudyError, ConnectionError):
    """A failure that may pass by itself, so that the task is tried again."""


class SessionLost(PassingError):
    """A session on a training server that ended or was spoilt; a new one from the last state goes on."""


class CheckpointGone(StageError):
    """A checkpoint that a server has forgotten; an earlier one may still be there."""
