"""What a teacher is to the pipeline, recorded or live, and how often a text is put to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from core.progress import Progress
from core.records import Example, TeacherAnswer
from core.teacher.summary import TeacherFacts


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
        """How many more attempts it asks for at least, where there is a next one."""
        return max(1, min(self.keep - labels.count(gold), self.attempts - len(labels)))


@dataclass(frozen=True, slots=True)
class Answered:
    """A text with the answers it got, in the order of their attempts; none at all is missing."""

    example: Example
    answers: tuple[TeacherAnswer, ...]


class Teacher(Protocol):
    """Answers texts. Opened with all it needs (prompts, rulebook, names of labels, policy).

    `examples` is read lazily, and only a collection (core.data.writing.Examples reads its file each
    time) more than once. The answers come back in its order, one item for each text, whatever the
    order in which they were earned; so a teacher that asks many at once holds no more than its
    window, or reads finished answers back from its journal. A caller that stops early closes the
    iterator, and what was answered until then stays answered.
    """

    @property
    def model(self) -> str:
        """Who answers, for the summary; known at the latest when the last answer was given."""

    def answers(self, examples: Iterable[Example], total: int, progress: Progress) -> Iterator[Answered]:
        """Answer `examples`, of which there are `total`; reports to `progress` how many are done."""

    def facts(self) -> TeacherFacts:
        """What only this kind of teacher reports, for the summary; complete once `answers` has ended."""


SOURCE = "gold"
"""The parse source of an answer that nobody gave; rules about reasons do not judge it."""


class GoldTeacher:
    """Answers every text with its gold label and an empty reasoning."""

    model = "gold"

    def answers(self, examples: Iterable[Example], total: int, progress: Progress) -> Iterator[Answered]:
        for done, example in enumerate(examples, start=1):
            progress.update(done, total)
            yield Answered(example, (_gold_answer(example),))

    def facts(self) -> TeacherFacts:
        return TeacherFacts()


def _gold_answer(example: Example) -> TeacherAnswer:
    return TeacherAnswer(
        example_id=example.id,
        sample=0,
        model=GoldTeacher.model,
        raw_output="",
        parse_ok=True,
        parse_source=SOURCE,
        label=example.label,
        reasoning="",
    )
