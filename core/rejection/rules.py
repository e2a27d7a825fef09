"""The rejection rules: each a small pure function from an answer and its text to a verdict.

What each one means stands, with its limits, in core.config.rejection; here each returns what it has
found to reject an answer for, or None.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from core.completions.reply import ending
from core.config import rejection as configs
from core.config.base import Section
from core.records import Example, TeacherAnswer, Verdict
from core.rejection.cited import cited, missing_quotes, plain, without_quotes
from core.rejection.leaks import revealed
from core.rejection.remembered import Remembered
from core.teacher.base import SOURCE as GOLD


@dataclass(slots=True)
class Context:
    """What a rule may know besides the answer: the rulebook's ids, the labels' names, and how often
    each reasoning was accepted before, in row order; and which rules judge answers that were shown the gold
    label, besides those that judge all."""

    rule_ids: tuple[str, ...] = ()
    label_names: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    accepted: Remembered = field(default_factory=Remembered)
    hinted: tuple[Section, ...] = configs.DEFAULT_HINTED


def unparsed(rule: configs.Unparsed, answer: TeacherAnswer, example: Example, context: Context) -> str | None:
    return None if answer.parse_ok else answer.error or "unparsed"


def truncated(
    rule: configs.Truncated, answer: TeacherAnswer, example: Example, context: Context
) -> str | None:
    if ending(answer.finish_reason) == "truncated":
        return "the token limit was reached"
    return "cut inside its JSON or tags" if answer.error == "truncated" else None


def label_mismatch(
    rule: configs.LabelMismatch, answer: TeacherAnswer, example: Example, context: Context
) -> str | None:
    if answer.label is None or answer.label == example.label:
        return None
    return f"says {answer.label}, gold is {example.label}"


def too_short(
    rule: configs.TooShort, answer: TeacherAnswer, example: Example, context: Context
) -> str | None:
    length = len((answer.reasoning or "").strip())
    return f"{length} characters, at least {rule.min_chars}" if length < rule.min_chars else None


def too_long(rule: configs.TooLong, answer: TeacherAnswer, example: Example, context: Context) -> str | None:
    length = len((answer.reasoning or "").strip())
    return f"{length} characters, at most {rule.max_chars}" if length > rule.max_chars else None


def no_rule_cited(
    rule: configs.NoRuleCited, answer: TeacherAnswer, example: Example, context: Context
) -> str | None:
    found = cited(answer.reasoning or "", context.rule_ids)
    return None if any(i in context.rule_ids for i in found) else "cites no rule of the rulebook"


def unknown_rule(
    rule: configs.UnknownRule, answer: TeacherAnswer, example: Example, context: Context
) -> str | None:
    found = cited(answer.reasoning or "", context.rule_ids)
    unknown = [i for i in dict.fromkeys(found) if i not in context.rule_ids]
    return f"cites {', '.join(unknown)}" if unknown else None


def quote_not_in_text(
    rule: configs.QuoteNotInText, answer: TeacherAnswer, example: Example, context: Context
) -> str | None:
    missing = missing_quotes(answer.reasoning or "", example.text, rule.min_chars)
    if len(missing) <= rule.max_missing:
        return None
    return "not in the text: " + ", ".join(f'"{quote[:60]}"' for quote in missing[:3])


def names_gold_label(
    rule: configs.NamesGoldLabel, answer: TeacherAnswer, example: Example, context: Context
) -> str | None:
    names = context.label_names.get(example.label, ())
    return _says(_phrases(rule.phrases, names), without_quotes(answer.reasoning or ""))


def refuses(rule: configs.Refuses, answer: TeacherAnswer, example: Example, context: Context) -> str | None:
    words = without_quotes(answer.reasoning or answer.raw_output)[:200]
    return _says(_phrases(rule.phrases, ()), words)


def repeats(rule: configs.Repeats, answer: TeacherAnswer, example: Example, context: Context) -> str | None:
    times = context.accepted.times(answer.reasoning or "")
    return f"accepted {times} times before" if times >= rule.max_times else None


def reveals_label(
    rule: configs.RevealsLabel, answer: TeacherAnswer, example: Example, context: Context
) -> str | None:
    reasoning = answer.reasoning or ""
    names = tuple(name for of in context.label_names.values() for name in of)
    if found := revealed(reasoning, names):
        return f'says "{found}"'
    of_gold = context.label_names.get(example.label, ())
    return _says(_phrases(rule.phrases, of_gold), without_quotes(reasoning))


@functools.lru_cache(maxsize=64)
def _phrases(phrases: tuple[str, ...], names: tuple[str, ...]) -> re.Pattern[str] | None:
    """One pattern for whole phrases, in which {label} stands for each of `names`."""
    said = [p.replace("{label}", name) for p in phrases for name in (names if "{label}" in p else ("",))]
    spelt = "|".join(re.escape(plain(p)) for p in said)
    return re.compile(rf"(?<!\w)(?:{spelt})(?!\w)") if spelt else None


def _says(phrases: re.Pattern[str] | None, words: str) -> str | None:
    found = phrases.search(plain(words)) if phrases else None
    return f'says "{found.group()}"' if found else None


RuleFunction = Callable[[Any, TeacherAnswer, Example, Context], str | None]
RULES: Mapping[str, RuleFunction] = {
    "unparsed": unparsed,
    "truncated": truncated,
    "label_mismatch": label_mismatch,
    "too_short": too_short,
    "too_long": too_long,
    "no_rule_cited": no_rule_cited,
    "unknown_rule": unknown_rule,
    "quote_not_in_text": quote_not_in_text,
    "names_gold_label": names_gold_label,
    "refuses": refuses,
    "repeats": repeats,
    "reveals_label": reveals_label,
}
ABOUT_REASONS = frozenset(RULES) - {"unparsed", "truncated", "label_mismatch"}
"""Rules that judge a reasoning: silent where there is none to judge (no answer that could be read,
or the gold label itself)."""
ABOUT_RULEBOOK = frozenset({"no_rule_cited", "unknown_rule"})


def judge(
    rules: tuple[Section, ...], answer: TeacherAnswer, example: Example, context: Context
) -> tuple[Verdict, ...]:
    """The verdicts of `rules` in their order, then those of `context.hinted` on an answer that was shown the
    gold label. What an answer without a label says is never learnt, so `unparsed` is added where the list
    leaves it out."""
    if answer.hinted:
        judged = {rule.rule for rule in rules}  # type: ignore[attr-defined]  # rules are named
        rules = (*rules, *(rule for rule in context.hinted if rule.rule not in judged))  # type: ignore[attr-defined]
    verdicts = tuple(_verdict(rule, answer, example, context) for rule in rules)
    if not answer.parse_ok and not any(v.rejected for v in verdicts):
        return (*verdicts, _verdict(configs.Unparsed(), answer, example, context))
    return verdicts


def _verdict(rule: Any, answer: TeacherAnswer, example: Example, context: Context) -> Verdict:
    name = str(rule.rule)
    silent = name in ABOUT_REASONS and (not answer.parse_ok or answer.parse_source == GOLD)
    # A refusal is seldom in the asked form, and then all there is to look at is the raw output.
    if silent and not (name == "refuses" and answer.parse_source != GOLD):
        return Verdict(name, rejected=False, detail="no reasoning to judge")
    detail = RULES[name](rule, answer, example, context)
    return Verdict(name, rejected=detail is not None, detail=detail or "")
