"""What a teacher is to the pipeline, how often it is asked, and the typed form of sample_summary.json."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from core.jsonio import Stored
from core.progress import Progress
from core.records import Example, TeacherAnswer

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


class FirstAnswers(Stored):
    """The confusion of the teacher's first answers with gold; the positive class is 1.

    A teacher's own accuracy on the split: nothing that looked at gold selected these answers.
    """

    tp: int
    fn: int
    fp: int
    tn: int
    unread: int
    """Answers without a readable label."""


class AnswerAgreement(Stored):
    """How far several answers to the same text agree, over the texts with two or more readable answers."""

    texts_with_several_answers: int
    unanimous: int
    tied: int
    majority_right: int
    majority_wrong: int
    observed_agreement: float | None
    """Share of agreeing pairs (Fleiss 1971); None without pairs."""
    only_texts_whose_first_answer_failed: bool
    """Whether the policy stops at the first answer that agrees with gold, so that only texts with a wrong
    first answer have several."""


class RecordedLabels(Stored):
    """Labels parsed from raw_output compared with the recorded ones, for answers that have both."""

    both: int
    agree: int
    differ: int
    unread: int
    """Only the recorded field names a label."""
    unrecorded: int
    """Only the raw output names a label."""
    neither: int


class TeacherLedger(Stored):
    """Requests, tokens and money of this start and of the run so far; money is None without a price."""

    run: str
    asked_now: int
    reused: int
    usd_now: float | None
    tokens_now: int
    cached_tokens_now: int
    usd_of_the_run: float | None
    requests_of_the_run: int
    prompt_tokens_of_the_run: int
    cached_tokens_of_the_run: int
    completion_tokens_of_the_run: int
    unmetered_of_the_run: int
    """Replies of the run without token counts."""
    retried: Mapping[str, int]
    """Requests sent again, by reason."""
    given_up: Mapping[str, int]
    """Texts without an answer, by the endpoint's words."""


class TeacherFacts(Stored):
    """What only one kind of teacher reports; unset fields do not apply to it."""

    recorded_answers: int | None = None
    """Answers in the recorded file."""
    recorded_not_asked: int | None = None
    """Recorded answers that the policy did not need, those of other texts included."""
    unknown_ids: int | None = None
    """Texts of the recorded file that are not in the split."""
    an_id_of_the_file: str | None = None
    a_text_of_the_file: str | None = None
    hinted_left_aside: int | None = None
    """Recorded answers left out because they were shown the gold label."""
    recorded_labels: RecordedLabels | None = None
    output_format: str | None = None
    """The response format settled with the endpoint."""
    ledger: TeacherLedger | None = None
    notices: Sequence[str] = ()


class SampleCounts(Stored):
    """Counts of the answers to one split, whatever the teacher."""

    teacher_kind: str
    teacher_model: str
    models: Mapping[str, int]
    """Answers by the model's own name."""
    examples: int
    answered: int
    missing: int
    missing_by_label: Mapping[str, int]
    missing_ids: Sequence[str]
    """The first few ids of texts without an answer."""
    answers: int
    parse_sources: Mapping[str, int]
    parse_errors: Mapping[str, int]
    finish_reasons: Mapping[str, int]
    first_answers: FirstAnswers
    agreement: AnswerAgreement


class SampleSummary(TeacherFacts, SampleCounts):
    """sample_summary.json: the result of the sample stage for one split."""
