"""Samples, a teacher's answers: when another one is asked for, their rows, and counts of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from math import comb
from pathlib import Path
from typing import Any

from core.jsonio import Stored, read_jsonl
from core.records import BINARY, Example, LabelSet, TeacherAnswer

GOLD_SOURCE = "gold"
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


_FIELDS = """raw_output parse_ok parse_source label reasoning error model finish_reason temperature hinted
    reasoning_content prompt_tokens cached_tokens completion_tokens latency_s"""
_COLUMNS = {name: "pred_label" if name == "label" else name for name in _FIELDS.split()}
"""Fields of an answer in the order of a row's columns, with the column's name."""


def sample_id(answer: TeacherAnswer) -> str:
    """Return the name of an answer: its text's id and its sample."""
    return f"{answer.example_id}_k{answer.sample}"


def sample_row(example: Example, answer: TeacherAnswer, *, split: str = "train") -> dict[str, Any]:
    """Return the row of one answer, with the text as it was when it was answered."""
    return {
        "sample_id": sample_id(answer),
        "example_id": answer.example_id,
        "split": split,
        "k_index": answer.sample,
        "text": example.text,
        "gold_label": example.label,
        **{column: getattr(answer, name) for name, column in _COLUMNS.items()},
    }


def read_samples(path: Path) -> Iterator[Answered]:
    """Yield the answered texts of a file that the sample stage wrote, in its order."""
    for id, group in groupby(read_jsonl(path), key=lambda row: row["example_id"]):
        rows = list(group)
        answers = (
            TeacherAnswer(id, row["k_index"], **{name: row[column] for name, column in _COLUMNS.items()})
            for row in rows
        )
        yield Answered(Example(id, rows[0]["text"], rows[0]["gold_label"]), tuple(answers))


@dataclass(slots=True)
class Agreement:
    """Agreement of a teacher's answers to one text, over the texts with several readable answers.

    `pairs` and `alike` count pairs of answers to the same text and those of them with one label: their
    ratio is the observed agreement of Fleiss (1971), with as many raters as a text has answers.
    """

    texts: int = 0
    unanimous: int = 0
    tied: int = 0
    majority_right: int = 0
    majority_wrong: int = 0
    pairs: int = 0
    alike: int = 0

    def add(self, gold: int, answered: Iterable[int | None]) -> None:
        votes = Counter(label for label in answered if label is not None)
        if votes.total() < 2:
            return
        (leading, most), *others = votes.most_common(2)
        self.texts += 1
        self.unanimous += not others
        if others and others[0][1] == most:
            self.tied += 1
        elif leading == gold:
            self.majority_right += 1
        else:
            self.majority_wrong += 1
        self.pairs += comb(votes.total(), 2)
        self.alike += sum(comb(count, 2) for count in votes.values())

    def summary(self, *, until_right: bool) -> AnswerAgreement:
        """Return the counts and the observed agreement; `until_right`: the policy stops at an answer that
        agrees with gold."""
        return AnswerAgreement(
            texts_with_several_answers=self.texts,
            unanimous=self.unanimous,
            tied=self.tied,
            majority_right=self.majority_right,
            majority_wrong=self.majority_wrong,
            observed_agreement=self.alike / self.pairs if self.pairs else None,
            only_texts_whose_first_answer_failed=until_right,
        )


@dataclass(slots=True)
class Tally:
    """What the sample stage's summary counts."""

    labels: LabelSet = BINARY
    examples: int = 0
    answers: int = 0
    missing: Counter[int] = field(default_factory=Counter)
    missing_ids: list[str] = field(default_factory=list)
    sources: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    finish_reasons: Counter[str] = field(default_factory=Counter)
    first: Counter[tuple[int | None, int | None]] = field(default_factory=Counter)
    """First answers by gold label and by their own."""
    agreement: Agreement = field(default_factory=Agreement)

    def add(self, answered: Answered) -> None:
        self.examples += 1
        gold = answered.example.label
        if not answered.answers:
            self.missing[gold] += 1
            if len(self.missing_ids) < 20:
                self.missing_ids.append(answered.example.id)
            return
        self.first[gold, answered.answers[0].label] += 1
        # An answer that was shown the label does not count as a vote.
        self.agreement.add(gold, (a.label for a in answered.answers if not a.hinted))
        for answer in answered.answers:
            self.answers += 1
            self.models[answer.model] += 1
            self.sources[answer.parse_source or "none"] += 1
            self.finish_reasons[answer.finish_reason or "none"] += 1
            if answer.error:
                self.errors[answer.error.partition(":")[0]] += 1

    def counts(self, kind: str, model: str, *, until_right: bool) -> SampleCounts:
        """Return the counts; see `Agreement.summary` for `until_right`."""
        missing, labels = self.missing.total(), self.labels
        return SampleCounts(
            teacher_kind=kind,
            teacher_model=model,
            models=dict(self.models.most_common()),
            examples=self.examples,
            answered=self.examples - missing,
            missing=missing,
            missing_by_label={labels.codes[label]: self.missing[label] for label in labels},
            missing_ids=self.missing_ids,
            answers=self.answers,
            parse_sources=dict(self.sources.most_common()),
            parse_errors=dict(self.errors.most_common()),
            finish_reasons=dict(self.finish_reasons.most_common()),
            first_answers=self.first_answers(),
            agreement=self.agreement.summary(until_right=until_right),
        )

    def first_answers(self) -> FirstAnswers:
        """Return the confusion of first answers with gold. Raises ValueError unless there are two labels."""
        first, one, zero = self.first, self.labels.positive, self.labels.negative
        return FirstAnswers(
            tp=first[one, one],
            fn=first[one, zero],
            fp=first[zero, one],
            tn=first[zero, zero],
            unread=sum(first[label, None] for label in self.labels),
        )


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
