"""The funnel: accepted and rejected answers and texts by reason and gold label, and whether one class loses.

Every answered text is accepted or has one reason, so the difference of the accepted shares is the sum, over
the reasons, of the differences of the shares that each took. A skew names the reason that contributes most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from core.config import RULES
from core.intervals import Difference, Share, difference, share
from core.jsonio import Stored
from core.records import BINARY, LabelSet
from core.teacher.samples import Agreement, AnswerAgreement, FirstAnswers, RecordedLabels, TeacherLedger

SUMMARY_FILE = "teacher_summary.json"
REJECTED_FILE = "rejected_samples.jsonl"
SURPLUS = "surplus"
"""An answer that no rule rejects, of a text that has as many accepted ones as are kept."""
_BOTH_NEEDED = "a student needs both labels"
_CODES = (BINARY.codes[1], BINARY.codes[BINARY.negative])
"""The codes of the positive and the negative class: a skew is between two."""

ByLabel = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Level:
    """Counts at one level, answers or texts. `by_reason`: reason -> gold label -> count, the most
    frequent reason first; `by_label` the accepted share of each gold label's, with 95 % intervals;
    `difference` the positive class's share minus the negative class's."""

    total: int
    accepted: int
    by_reason: Mapping[str, ByLabel]
    by_label: Mapping[str, Share]
    difference: Difference


@dataclass(frozen=True, slots=True)
class Votes:
    """How far several answers to one text agree. `texts` have two or more that could be read;
    `majority` are those where one label leads, `majority_right` where it is the gold label.

    With fewer attempts kept than asked, only texts whose first answer was wrong have several.
    """

    texts: int
    unanimous: int
    majority: int
    majority_right: int


@dataclass(frozen=True, slots=True)
class Funnel:
    """Answers one by one, and texts: a text is accepted with its first accepted answer, otherwise
    its reason is that of its last answer; a text without any answer is missing, and in no share."""

    answers: Level
    texts: Level
    missing: ByLabel
    first_answer_right: Share
    agreement: Votes


@dataclass(frozen=True, slots=True)
class Skew:
    """One class loses more: the code of its label, the rule that makes most of the difference, how many
    texts of either label that rule took, what to do, and all of it in words."""

    label: str
    rule: str
    took: ByLabel
    remedy: str
    said: str


@dataclass(frozen=True, slots=True)
class Hardness:
    """How many of the answered texts of either gold label are hard, with 95 % intervals; `difference` is
    the positive class's share minus the negative class's."""

    texts: int
    unanswered: int
    by_label: dict[str, Share]
    difference: Difference


class TeacherSummary(Stored):
    """teacher_summary.json: the result of the reject stage, with the facts of the sample stage."""

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
    """Why nothing can be learned from the accepted answers; None if it can."""
    notices: Sequence[str]

    @property
    def is_gold(self) -> bool:
        """Whether no teacher was asked, and the student learns the gold labels."""
        return self.teacher_kind == "gold"


_Counts = Counter[tuple[str | None, int]]
"""Counts by reason, None for accepted, and gold label."""


class FunnelCounter:
    """Counts texts as they pass, in constant memory."""

    def __init__(self, labels: LabelSet = BINARY) -> None:
        self._labels = labels
        self._answers, self._texts = _Counts(), _Counts()
        self._missing: Counter[int] = Counter()
        self._first: Counter[bool] = Counter()
        self._agreement = Agreement()

    def text(self, gold: int, labels: Sequence[int | None], reasons: Sequence[str | None]) -> None:
        """Count one text with the labels of its answers (None: unread) and the reasons for their rejection
        (None: accepted), both in the order of the answers."""
        if not reasons:
            self._missing[gold] += 1
            return
        self._answers.update((reason, gold) for reason in reasons)
        self._texts[None if None in reasons else reasons[-1], gold] += 1
        self._first[labels[0] == gold] += 1
        self._agreement.add(gold, labels)

    @property
    def texts(self) -> int:
        """How many texts were counted."""
        return self._first.total() + self._missing.total()

    def funnel(self) -> Funnel:
        """Return the counts so far."""
        votes = self._agreement
        return Funnel(
            answers=self._level(self._answers),
            texts=self._level(self._texts),
            missing={code: self._missing[label] for label, code in enumerate(self._labels.codes)},
            first_answer_right=share(self._first[True], self._first.total()),
            agreement=Votes(
                texts=votes.texts,
                unanimous=votes.unanimous,
                majority=votes.majority_right + votes.majority_wrong,
                majority_right=votes.majority_right,
            ),
        )

    def _level(self, counts: _Counts) -> Level:
        labels, rejected, totals = self._labels, Counter[str](), Counter[int]()
        for (reason, gold), n in counts.items():
            totals[gold] += n
            if reason is not None:
                rejected[reason] += n
        shares = [share(counts[None, label], totals[label]) for label in labels]
        return Level(
            total=totals.total(),
            accepted=totals.total() - rejected.total(),
            by_reason={
                reason: {code: counts[reason, label] for label, code in enumerate(labels.codes)}
                for reason, _ in rejected.most_common()
            },
            by_label=dict(zip(labels.codes, shares, strict=True)),
            difference=difference(shares[labels.positive or 0], shares[labels.negative]),
        )


def skew(texts: Level, *, live: bool) -> Skew | None:
    """Return the skew of accepted texts; None unless the 95 % interval of the difference excludes 0.

    `live`: the teacher can be asked again.
    """
    d, shares = texts.difference, texts.by_label
    if not d.shown or d.value is None:
        return None
    less, more = _CODES if d.value < 0 else reversed(_CODES)
    excess = {
        rule: took[less] / shares[less].total - took[more] / shares[more].total
        for rule, took in texts.by_reason.items()
    }
    rule = max(excess, key=lambda name: excess[name])
    took, what = texts.by_reason[rule], remedy(rule, live=live)
    text = (
        f"rejection takes more {_title(less)} texts than {_title(more)} ones: of the former "
        f"{_part(shares[less])} were accepted, of the latter {_part(shares[more])}; {_minus(d)}. Most of it "
        f"is {rule}, which took {took[less]} of the former and {took[more]} of the latter: read "
        f"{REJECTED_FILE}, then {what}"
    )
    return Skew(less, rule, took, what, text)


def notices(funnel: Funnel, *, live: bool) -> Iterator[str]:
    """Yield in words what one class loses more than the other, by rejection or for lack of an answer."""
    if (found := skew(funnel.texts, live=live)) is not None:
        yield found.said
    lost = {k: share(n, n + funnel.texts.by_label[k].total) for k, n in funnel.missing.items()}
    d = difference(*(lost[code] for code in _CODES))
    if not d.shown or d.value is None:
        return
    less, more = _CODES if d.value > 0 else reversed(_CODES)
    what = (
        "see in the ledger's given_up why the endpoint does not answer them, and fix that or use another"
        if live
        else "record answers to them"
    )
    yield (
        f"more {_title(less)} texts than {_title(more)} ones have no answer, {_part(lost[less])} against "
        f"{_part(lost[more])}; {_minus(d)}: {what}"
    )


def unusable(funnel: Funnel, learned: Counter[int], *, live: bool) -> str | None:
    """Return in one sentence why nothing can be learned from the accepted answers; None if it can."""
    texts = funnel.texts
    empty = [label for label, accepted in texts.by_label.items() if accepted.count == 0]
    if not empty:
        same = f"all accepted answers say {next(iter(learned))}, whatever the gold label; {_BOTH_NEEDED}"
        return same if len(learned) < 2 else None
    what = f"no answer to the {texts.total} answered texts was accepted"
    if len(empty) == 1:
        total = texts.by_label[empty[0]].total
        what = f"of the {total} answered texts with gold label {empty[0]} none was accepted"
    counts = {r: sum(by[label] for label in empty) for r, by in texts.by_reason.items()}
    reason = max(counts, key=lambda r: counts[r], default=None)
    if reason is None or counts[reason] == 0:
        return f"{what}, since the teacher answered none; {_BOTH_NEEDED}"
    return (
        f"{what}, most often because of {reason} ({counts[reason]} texts); {_BOTH_NEEDED}: read "
        f"{REJECTED_FILE}, then {remedy(reason, live=live)}"
    )


def remedy(rule: str, *, live: bool) -> str:
    """Return what to change if `rule` rejects too much; `live`: the teacher can be asked again."""
    found = (RULES.get(rule).remedy if rule in RULES else "") or f"loosen {rule} in rejection.rules"
    again = (
        "record more answers to them (a further sample, or one that saw the gold label, marked hinted: true)"
    )
    if live:
        again = (
            "give the teacher more tries (teacher.attempts), let a last one see the gold label "
            "(teacher.hint: true)"
        )
    return found.format(again=again, longer="raise teacher.max_tokens" if live else "record whole answers")


def _title(code: str) -> str:
    return BINARY.title(BINARY.codes.index(code))


def _part(of: Share) -> str:
    return f"{of.count} of {of.total} ({of.rate:.1%})"


def _minus(d: Difference) -> str:
    return f"positive minus negative {d.value:+.3f} (95 % interval {d.low:+.3f} to {d.high:+.3f})"
