"""The typed form of teacher_summary.json: what the teacher gave, and what rejection kept of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from core.jsonio import Stored
from core.rejection.funnel import Funnel
from core.rejection.hard import Hardness
from core.rejection.skew import Skew
from core.teacher.summary import AnswerAgreement, FirstAnswers, RecordedLabels, TeacherLedger


class TeacherSummary(Stored):
    """teacher_summary.json: the result of the reject stage, with the sample stage's facts."""

    teacher_model: str
    teacher_kind: str
    requested_samples: int
    """Answers that were judged."""
    accepted_samples: int
    rejected_samples: int
    acceptance_rate: float | None
    """Accepted answers of all answers; None without answers."""
    examples: int
    """Texts of train."""
    accepted_examples: int
    """Texts with an accepted answer."""
    example_acceptance_rate: float | None
    """Accepted texts of all answered texts; None without answers."""
    missing: int
    """Texts without an answer."""
    unknown_ids: int
    """Texts of a recorded file that are not in train."""
    models: Mapping[str, int]
    parse_sources: Mapping[str, int]
    parse_errors: Mapping[str, int]
    finish_reasons: Mapping[str, int]
    first_answers: FirstAnswers
    agreement: AnswerAgreement
    recorded_labels: RecordedLabels | None = None
    output_format: str | None = None
    ledger: TeacherLedger | None = None
    funnel: Funnel
    hard: Hardness
    skew: Skew | None
    """The gold label of which rejection takes a larger share, where that is beyond chance."""
    unusable: str | None
    """Why nothing can be learned from the accepted answers; None where it can."""
    notices: Sequence[str]

    @property
    def is_gold(self) -> bool:
        """Whether no teacher was asked, and the student learns the gold labels."""
        return self.teacher_kind == "gold"
