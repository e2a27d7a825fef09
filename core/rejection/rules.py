"""The built-in rejection rules, each with its settings, verdict and remedy, and their joint verdicts."""

from __future__ import annotations

import functools
import re

from pydantic import Field

from core.completions.reply import ending
from core.config.rejection import RejectionConfig, RejectionRule, RuleContext, rule
from core.records import Example, TeacherAnswer, Verdict
from core.rejection.cited import cited, missing_quotes, plain, without_quotes
from core.rejection.leaks import revealed
from core.teacher.base import SOURCE as GOLD


@rule("unparsed")
class Unparsed(RejectionRule):
    """The output could not be read as reasoning and label."""

    judges = "answer"
    remedy = "set teacher.parse to how the teacher writes its answers to them, or {again}"

    def reject(self, answer: TeacherAnswer, example: Example, context: RuleContext) -> str | None:
        return None if answer.parse_ok else answer.error or "unparsed"


@rule("truncated")
class Truncated(RejectionRule):
    """The output was cut: by the token limit, or inside its JSON or tags."""

    judges = "answer"
    remedy = "{longer}"

    def reject(self, answer: TeacherAnswer, example: Example, context: RuleContext) -> str | None:
        if ending(answer.finish_reason) == "truncated":
            return "the token limit was reached"
        return "cut inside its JSON or tags" if answer.error == "truncated" else None


@rule("label_mismatch")
class LabelMismatch(RejectionRule):
    """The teacher's label is not the gold label."""

    judges = "answer"
    remedy = (
        "{again}, correct the rules where they are misread, or set teacher.parse.labels if the teacher names "
        "the labels differently"
    )

    def reject(self, answer: TeacherAnswer, example: Example, context: RuleContext) -> str | None:
        if answer.label is None or answer.label == example.label:
            return None
        return f"says {answer.label}, gold is {example.label}"


@rule("too_short")
class TooShort(RejectionRule):
    """The reasoning is too short to explain anything."""

    remedy = "lower min_chars of too_short in rejection.rules, or {again}"

    min_chars: int = Field(20, ge=1)
    """Shortest reasoning, in characters without surrounding space."""

    def reject(self, answer: TeacherAnswer, example: Example, context: RuleContext) -> str | None:
        length = len((answer.reasoning or "").strip())
        return f"{length} characters, at least {self.min_chars}" if length < self.min_chars else None


@rule("too_long")
class TooLong(RejectionRule):
    """The reasoning is too long to be learned."""

    remedy = "raise max_chars of too_long in rejection.rules, or ask for shorter reasons in teacher_user"

    max_chars: int = Field(2000, ge=1)
    """Longest reasoning, in characters."""

    def reject(self, answer: TeacherAnswer, example: Example, context: RuleContext) -> str | None:
        length = len((answer.reasoning or "").strip())
        return f"{length} characters, at most {self.max_chars}" if length > self.max_chars else None


@rule("no_rule_cited")
class NoRuleCited(RejectionRule):
    """The reasoning cites no rule of the rulebook."""

    needs_rule_ids = True
    remedy = (
        "check that the rulebook has rules by which such texts can be judged, ask for citations in "
        "teacher_user, or take no_rule_cited out of rejection.rules"
    )

    def reject(self, answer: TeacherAnswer, example: Example, context: RuleContext) -> str | None:
        found = cited(answer.reasoning or "", context.rule_ids)
        return None if any(i in context.rule_ids for i in found) else "cites no rule of the rulebook"


@rule("unknown_rule")
class UnknownRule(RejectionRule):
    """The reasoning cites a rule that the rulebook does not have."""

    needs_rule_ids = True
    remedy = "correct the ids that the prompt or the rulebook names, or {again}"

    def reject(self, answer: TeacherAnswer, example: Example, context: RuleContext) -> str | None:
        found = cited(answer.reasoning or "", context.rule_ids)
        unknown = [i for i in dict.fromkeys(found) if i not in context.rule_ids]
        return f"cites {', '.join(unknown)}" if unknown else None


@rule("quote_not_in_text")
class QuoteNotInText(RejectionRule):
    """The reasoning quotes words that are not in the text."""

    remedy = (
        "ask for literal quotations in teacher_user, raise max_missing of quote_not_in_text in "
        "rejection.rules, or {again}"
    )

    min_chars: int = Field(3, ge=1)
    """Shorter quotations are not checked."""
    max_missing: int = Field(0, ge=0)
    """Quotations that may be missing from the text."""

    def reject(self, answer: TeacherAnswer, example: Example, context: RuleContext) -> str | None:
        missing = missing_quotes(answer.reasoning or "", example.text, self.min_chars)
        if len(missing) <= self.max_missing:
            return None
        return "not in the text: " + ", ".join(f'"{quote[:60]}"' for quote in missing[:3])


@rule("names_gold_label")
class NamesGoldLabel(RejectionRule):
    """The reasoning mentions the gold label, which only an answer that was shown it can do."""

    remedy = "take the phrase that was found out of names_gold_label in rejection.rules"

    phrases: tuple[str, ...] = (
        *("gold label", "true label", "correct label", "given label", "provided label"),
        *("ground truth", "label is given"),
    )
    """Phrases that mention it, in upper or lower case. {label} in a phrase represents each of the gold
    label's names, for instance "labeled as {label}"."""

    def reject(self, answer: TeacherAnswer, example: Example, context: RuleContext) -> str | None:
        names = context.labels.names(example.label)
        return _matched_phrase(self.phrases, names, without_quotes(answer.reasoning or ""))


@rule("refuses")
class Refuses(RejectionRule):
    """The answer declines to judge."""

    judges = "output"  # a refusal is seldom in the requested form
    remedy = (
        "state in teacher_system that judging such texts is the task, or take the phrase that was found "
        "out of refuses in rejection.rules"
    )

    phrases: tuple[str, ...] = (
        *("i cannot", "i can't", "i can not", "i'm unable", "i am unable", "i'm sorry", "i am sorry"),
        *("as an ai", "as a language model"),
    )
    """Phrases that a refusal begins with, searched in its first 200 characters."""

    def reject(self, answer: TeacherAnswer, example: Example, context: RuleContext) -> str | None:
        return _matched_phrase(self.phrases, (), without_quotes(answer.reasoning or answer.raw_output)[:200])


@rule("repeats")
class Repeats(RejectionRule):
    """The reasoning repeats one that was accepted before, in row order."""

    counts_accepted = True
    remedy = "raise max_times of repeats in rejection.rules, or {again}"

    max_times: int = Field(1, ge=1)
    """How often the same reasoning (ignoring case and space) is accepted."""

    def reject(self, answer: TeacherAnswer, example: Example, context: RuleContext) -> str | None:
        times = context.times_accepted(answer.reasoning or "")
        return f"accepted {times} times before" if times >= self.max_times else None


@rule("reveals_label")
class RevealsLabel(RejectionRule):
    """The reasoning reveals a label that was shown: calls it given, argues from it, or repeats the hint."""

    remedy = (
        "ask in teacher_hint for reasons that do not mention the label, {again}, or set rejection.hinted: []"
    )

    phrases: tuple[str, ...] = ()
    """Further phrases that reveal it, for instance words of your own teacher_hint, in addition to those in
    core.rejection.leaks, in upper or lower case. {label} represents each of the gold label's names."""

    def reject(self, answer: TeacherAnswer, example: Example, context: RuleContext) -> str | None:
        reasoning = answer.reasoning or ""
        names = tuple(name for label in context.labels for name in context.labels.names(label))
        if found := revealed(reasoning, names):
            return f'says "{found}"'
        return _matched_phrase(self.phrases, context.labels.names(example.label), without_quotes(reasoning))


def _matched_phrase(phrases: tuple[str, ...], names: tuple[str, ...], words: str) -> str | None:
    """Return the first of the phrases in `words`, whole; {label} in one represents each of `names`."""
    pattern = _pattern(phrases, names)
    found = pattern.search(plain(words)) if pattern else None
    return f'says "{found.group()}"' if found else None


@functools.lru_cache(maxsize=64)
def _pattern(phrases: tuple[str, ...], names: tuple[str, ...]) -> re.Pattern[str] | None:
    filled = [p.replace("{label}", name) for p in phrases for name in (names if "{label}" in p else ("",))]
    spelled = "|".join(re.escape(plain(p)) for p in filled)
    return re.compile(rf"(?<!\w)(?:{spelled})(?!\w)") if spelled else None


def judge(
    config: RejectionConfig, answer: TeacherAnswer, example: Example, context: RuleContext
) -> tuple[Verdict, ...]:
    """Return the verdicts of `config.rules` in their order, then of `config.hinted` if the answer was shown
    the gold label. An answer without a label is never learned: `unparsed` is added if the list omits it."""
    rules = config.rules
    if answer.hinted:
        names = {each.rule for each in rules}
        rules = (*rules, *(each for each in config.hinted if each.rule not in names))
    verdicts = tuple(_verdict(each, answer, example, context) for each in rules)
    if not answer.parse_ok and not any(v.rejected for v in verdicts):
        return (*verdicts, _verdict(Unparsed(), answer, example, context))
    return verdicts


def _verdict(each: RejectionRule, answer: TeacherAnswer, example: Example, context: RuleContext) -> Verdict:
    is_gold = answer.parse_source == GOLD
    applies = {"answer": True, "output": not is_gold, "reasoning": answer.parse_ok and not is_gold}
    if not applies[each.judges]:
        return Verdict(each.rule, rejected=False, detail="no reasoning to judge")
    detail = each.reject(answer, example, context)
    return Verdict(each.rule, rejected=detail is not None, detail=detail or "")
