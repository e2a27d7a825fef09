"""Rejection that takes more of one class than of the other: how much, by which rule, and what to do.

The student learns less about a class that loses more, and no metric of the accepted answers shows it. Every
answered text is accepted or has one reason, so the difference of the accepted shares is the sum, over the
reasons, of the differences of the shares that each took. The reason named here contributes most to it, which
need not be the one that took most texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from core.config.rejection import RULES
from core.intervals import Difference, Share, difference, share
from core.labels import BINARY
from core.rejection.funnel import Funnel, Level

REJECTED_FILE = "rejected_samples.jsonl"
_LABELS = (BINARY.codes[1], BINARY.codes[BINARY.negative])
"""The codes of the positive and the negative class: a skew is between two."""
_AGAIN = (
    "give the teacher more tries (teacher.attempts), let a last one see the gold label (teacher.hint: true)"
)
_RECORD = (
    "record more answers to them (a further sample, or one that saw the gold label, marked hinted: true)"
)


@dataclass(frozen=True, slots=True)
class Skew:
    """One class loses more: its label as text ("0" or "1"), the rule that makes most of the difference, how
    many texts of either label that rule took, and what to do. `said` is all of it in words."""

    label: str
    rule: str
    took: Mapping[str, int]
    remedy: str
    said: str


def skew(texts: Level, *, live: bool) -> Skew | None:
    """None unless the 95 % interval of the difference excludes 0; `live`: the teacher can be asked again."""
    d, shares = texts.difference, texts.by_label
    if not _shown(d) or d.value is None:
        return None
    less, more = _LABELS if d.value < 0 else reversed(_LABELS)
    rule, took = max(texts.by_reason.items(), key=lambda item: _excess(item[1], shares, less, more))
    to_do = remedy(rule, live=live)
    by_rule = f"{took[less]} of the former and {took[more]} of the latter"
    said = (
        f"rejection takes more {_title(less)} texts than {_title(more)} ones: of the former "
        f"{_of(shares[less])} were accepted, of the latter {_of(shares[more])}; {_minus(d)}. Most of it is "
        f"{rule}, which took {by_rule}: read {REJECTED_FILE}, then {to_do}"
    )
    return Skew(less, rule, took, to_do, said)


def notices(funnel: Funnel, *, live: bool) -> Iterator[str]:
    """In words what is lost of one class more than of the other, by rejection or for want of an answer."""
    if (found := skew(funnel.texts, live=live)) is not None:
        yield found.said
    lost = {k: share(n, n + funnel.texts.by_label[k].total) for k, n in funnel.missing.items()}
    d = difference(*(lost[code] for code in _LABELS))
    if not _shown(d) or d.value is None:
        return
    less, more = _LABELS if d.value > 0 else reversed(_LABELS)
    to_do = (
        "see in the ledger's given_up why the endpoint does not answer them, and fix that or use another"
        if live
        else "record answers to them"
    )
    yield (
        f"more {_title(less)} texts than {_title(more)} ones have no answer, {_of(lost[less])} against "
        f"{_of(lost[more])}; {_minus(d)}: {to_do}"
    )


def remedy(rule: str, *, live: bool) -> str:
    """Return what to change if `rule` rejects too much; `live`: the teacher can be asked again."""
    found = (RULES.get(rule).remedy if rule in RULES else "") or f"loosen {rule} in rejection.rules"
    longer = "raise teacher.max_tokens" if live else "record whole answers"
    return found.format(again=_AGAIN if live else _RECORD, longer=longer)


def _title(code: str) -> str:
    return BINARY.title(BINARY.codes.index(code))


def _shown(d: Difference) -> bool:
    """Whether chance hardly explains a difference."""
    return d.low is not None and d.high is not None and not d.low <= 0 <= d.high


def _excess(took: Mapping[str, int], shares: Mapping[str, Share], less: str, more: str) -> float:
    """What a reason adds to the difference: the share of the losing class that it took, minus the other's."""
    return took[less] / shares[less].total - took[more] / shares[more].total


def _of(part: Share) -> str:
    return f"{part.count} of {part.total} ({part.rate:.1%})"


def _minus(d: Difference) -> str:
    return f"positive minus negative {d.value:+.3f} (95 % interval {d.low:+.3f} to {d.high:+.3f})"
