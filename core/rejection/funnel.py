"""The funnel: what became of every answer and of every text, by reason and by gold label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from core.intervals import Difference, Share, difference, share
from core.labels import BINARY, LabelSet
from core.teacher import samples as tally

SURPLUS = "surplus"
"""An answer that no rule rejects, of a text that has as many accepted ones as are kept."""

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
class Agreement:
    """What several answers to one text say together. `texts` have two or more that could be read;
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
    its reason is that of its last answer; a text without any answer is missing, and no share's."""

    answers: Level
    texts: Level
    missing: ByLabel
    first_answer_right: Share
    agreement: Agreement


@dataclass(slots=True)
class _Counts:
    labels: LabelSet
    accepted: Counter[int] = field(default_factory=Counter)
    total: Counter[int] = field(default_factory=Counter)
    reasons: Counter[tuple[str, int]] = field(default_factory=Counter)

    def add(self, gold: int, reason: str | None) -> None:
        self.total[gold] += 1
        if reason is None:
            self.accepted[gold] += 1
        else:
            self.reasons[reason, gold] += 1

    def level(self) -> Level:
        names, labels = Counter[str](), self.labels
        for (reason, _), n in self.reasons.items():
            names[reason] += n
        shares = [share(self.accepted[label], self.total[label]) for label in labels]
        return Level(
            total=self.total.total(),
            accepted=self.accepted.total(),
            by_reason={
                reason: {code: self.reasons[reason, label] for label, code in enumerate(labels.codes)}
                for reason, _ in names.most_common()
            },
            by_label=dict(zip(labels.codes, shares, strict=True)),
            difference=difference(shares[labels.positive or 0], shares[labels.negative]),
        )


class FunnelCounter:
    """Counts while answers pass; holds nothing that grows with their number."""

    def __init__(self, labels: LabelSet = BINARY) -> None:
        self._labels = labels
        self._answers, self._texts = _Counts(labels), _Counts(labels)
        self._missing: Counter[int] = Counter()
        self._first: Counter[bool] = Counter()
        self._agreement = tally.Agreement()

    def text(self, gold: int, labels: list[int | None], reasons: list[str | None]) -> None:
        """Count one text with the labels its answers gave (None: unread) and the reasons they were
        rejected for (None: accepted), both in the order of the answers."""
        if not reasons:
            self._missing[gold] += 1
            return
        for reason in reasons:
            self._answers.add(gold, reason)
        self._texts.add(gold, None if None in reasons else reasons[-1])
        self._first[labels[0] == gold] += 1
        self._agreement.add(gold, labels)

    @property
    def texts(self) -> int:
        """How many texts were counted."""
        return self._texts.total.total() + self._missing.total()

    def funnel(self) -> Funnel:
        """The counts so far."""
        return Funnel(
            answers=self._answers.level(),
            texts=self._texts.level(),
            missing={code: self._missing[label] for label, code in enumerate(self._labels.codes)},
            first_answer_right=share(self._first[True], self._first.total()),
            agreement=Agreement(
                texts=self._agreement.texts,
                unanimous=self._agreement.unanimous,
                majority=self._agreement.majority_right + self._agreement.majority_wrong,
                majority_right=self._agreement.majority_right,
            ),
        )
