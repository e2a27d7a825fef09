"""Rejection that takes more of one class than of the other: how much, by which rule, and what to do.

What is lost of one class the student learns less of, and no metric of the accepted answers shows it.
Every answered text is accepted or has one reason, so the difference of the accepted shares is the sum,
over the reasons, of the differences of the shares that each took: the reason named here is the one that
makes most of it, which need not be the one that took most texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from core.rejection.funnel import Funnel, Level
from core.rejection.intervals import Difference, Share, difference, share

REJECTED_FILE = "rejected_samples.jsonl"
NAMES: Mapping[str, str] = {"0": "negative", "1": "positive"}
_AGAIN = (
    "give the teacher more tries (teacher.attempts), let a last one see the gold label (teacher.hint: true)"
)
_RECORD = (
    "record more answers to them (a further sample, or one that saw the gold label, marked hinted: true)"
)
_REMEDIES: Mapping[str, str] = {
    "label_mismatch": "{again}, or mend the rules where they are misread",
    "unparsed": "set teacher.parse to how the teacher writes its answers to them, or {again}",
    "truncated": "{longer}",
    "too_short": "lower min_chars of too_short in rejection.rules, or {again}",
    "too_long": "raise max_chars of too_long in rejection.rules, or ask for shorter reasons in teacher_user",
    "no_rule_cited": "see that the rulebook has rules by which such texts can be judged, ask for citations "
    "in teacher_user, or take no_rule_cited out of rejection.rules",
    "unknown_rule": "mend the ids that the prompt or the rulebook names, or {again}",
    "quote_not_in_text": "ask for literal quotations in teacher_user, raise max_missing of quote_not_in_text "
    "in rejection.rules, or {again}",
    "names_gold_label": "take the phrase that was found out of names_gold_label in rejection.rules",
    "reveals_label": "ask in teacher_hint for reasons that do not mention the label, {again}, or set "
    "rejection.hinted: []",
    "refuses": "say in teacher_system that judging such texts is the task, or take the phrase that was found "
    "out of refuses in rejection.rules",
    "repeats": "raise max_times of repeats in rejection.rules, or {again}",
}


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
    less, more = ("1", "0") if d.value < 0 else ("0", "1")
    rule, took = max(texts.by_reason.items(), key=lambda item: _excess(item[1], shares, less, more))
    remedy = _remedy(rule, live=live)
    by_rule = f"{took[less]} of the former and {took[more]} of the latter"
    said = (
        f"rejection takes more {NAMES[less]} texts than {NAMES[more]} ones: of the former "
        f"{_of(shares[less])} were accepted, of the latter {_of(shares[more])}; {_minus(d)}. Most of it is "
        f"{rule}, which took {by_rule}: read {REJECTED_FILE}, then {remedy}"
    )
    return Skew(less, rule, took, remedy, said)


def notices(funnel: Funnel, *, live: bool) -> Iterator[str]:
    """In words what is lost of one class more than of the other, by rejection or for want of an answer."""
    if (found := skew(funnel.texts, live=live)) is not None:
        yield found.said
    lost = {k: share(n, n + funnel.texts.by_label[k].total) for k, n in funnel.missing.items()}
    d = difference(lost["1"], lost["0"])
    if not _shown(d) or d.value is None:
        return
    less, more = ("1", "0") if d.value > 0 else ("0", "1")
    remedy = (
        "see in the ledger's given_up why the endpoint does not answer them, and mend that or ask another"
        if live
        else "record answers to them"
    )
    yield (
        f"more {NAMES[less]} texts than {NAMES[more]} ones have no answer, {_of(lost[less])} against "
        f"{_of(lost[more])}; {_minus(d)}: {remedy}"
    )


def _shown(d: Difference) -> bool:
    """Whether chance hardly explains a difference."""
    return d.low is not None and d.high is not None and not d.low <= 0 <= d.high


def _excess(took: Mapping[str, int], shares: Mapping[str, Share], less: str, more: str) -> float:
    """What a reason adds to the difference: the share of the losing class that it took, minus the other's."""
    return took[less] / shares[less].total - took[more] / shares[more].total


def _remedy(rule: str, *, live: bool) -> str:
    again = _AGAIN if live else _RECORD
    longer = "raise teacher.max_tokens" if live else "record whole answers"
    found = _REMEDIES.get(rule, f"loosen {rule} in rejection.rules")
    return found.format(again=again, longer=longer)


def _of(part: Share) -> str:
    return f"{part.count} of {part.total} ({part.rate:.1%})"


def _minus(d: Difference) -> str:
    return f"positive minus negative {d.value:+.3f} (95 % interval {d.low:+.3f} to {d.high:+.3f})"
