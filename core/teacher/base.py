"""What a teacher is to the pipeline, recorded or live, and how often it is asked about a text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from core.progress import Progress
from core.records import Example, TeacherAnswer
from core.teacher.summary import TeacherFacts

SOURCE = "gold"
"""The parse source of gold labels used as answers; rules about reasons do not apply to it."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One sampling attempt: its zero-based index, its temperature (None: the provider's default), and whether
    the gold label is shown to the teacher."""

    number: int
    temperature: float | None
    hinted: bool = False


@dataclass(frozen=True, slots=True)
class AttemptPolicy:
    """How often the teacher is asked about a text: until `keep` answers agree with gold or `attempts` are
    used; then, with `hint` and without an agreeing answer, once more with the gold label shown.

    A pure function of the answers so far, so that a restarted run asks exactly what is missing.
    """

    attempts: int
    keep: int
    temperature: float | None = 0.0
    hint: bool = False

    def next(self, gold: int, labels: Sequence[int | None]) -> Attempt | None:
        """Return the attempt after answers that named `labels` (None: unreadable); None when these are
        enough."""
        agreeing = labels.count(gold)
        if agreeing >= self.keep:
            return None
        number = len(labels)
        if number < self.attempts:
            greedy = number == 0 and self.temperature is not None
            return Attempt(number, 0.0 if greedy else self.temperature)
        if self.hint and agreeing == 0 and number == self.attempts:
            return Attempt(number, self.temperature, hinted=True)
        return None

    def least(self, gold: int, labels: Sequence[int | None]) -> int:
        """Return how many more attempts are made at least, if there is a next one."""
        return max(1, min(self.keep - labels.count(gold), self.attempts - len(labels)))


@dataclass(frozen=True, slots=True)
class Answered:
    """A text with its answers, in the order of their attempts; without any it is missing."""

    example: Example
    answers: tuple[TeacherAnswer, ...]


class Teacher(Protocol):
    """Answers texts. Opened with all it needs (prompts, rulebook, names of labels, policy).

    `examples` is read lazily, and only a collection (core.data.writing.Examples reads its file each
    time) more than once. The answers are in its order, one item for each text. A caller that stops early
    closes the iterator, and texts that were answered until then stay answered.
    """

    @property
    def model(self) -> str:
        """The answering model, for the summary; known at the latest when the last answer was given."""

    def answers(self, examples: Iterable[Example], total: int, progress: Progress) -> Iterator[Answered]:
        """Answer `examples`, of which there are `total`; reports to `progress` how many are done."""

    def facts(self) -> TeacherFacts:
        """Return what only this kind of teacher reports; complete once `answers` has ended."""


class GoldTeacher:
    """Answers every text with its gold label and an empty reasoning."""

    model = "gold"

    def answers(self, examples: Iterable[Example], total: int, progress: Progress) -> Iterator[Answered]:
        for done, example in enumerate(examples, start=1):
            progress.update(done, total)
            answer = TeacherAnswer(
                example_id=example.id,
                sample=0,
                model=self.model,
                raw_output="",
                parse_ok=True,
                parse_source=SOURCE,
                label=example.label,
                reasoning="",
            )
            yield Answered(example, (answer,))

    def facts(self) -> TeacherFacts:
        return TeacherFacts()
