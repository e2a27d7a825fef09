"""The built-in rejection rules, each with its settings, verdict and remedy, and their joint verdicts."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from pydantic import Field

from core.completions.chat import ending
from core.config import RejectionConfig, RejectionRule, RuleContext, rule
from core.records import BINARY, Example, TeacherAnswer, Verdict
from core.rulebook import cited, missing_quotes, plain, without_quotes
from core.teacher.samples import GOLD_SOURCE


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
    """Further phrases that reveal it, for instance words of your own teacher_hint, in addition to the
    built-in ones, in upper or lower case. {label} represents each of the gold label's names."""

    def reject(self, answer: TeacherAnswer, example: Example, context: RuleContext) -> str | None:
        reasoning = answer.reasoning or ""
        names = tuple(name for label in context.labels for name in context.labels.names(label))
        if found := revealed(reasoning, names):
            return f'says "{found}"'
        return _matched_phrase(self.phrases, context.labels.names(example.label), without_quotes(reasoning))


def _matched_phrase(phrases: tuple[str, ...], names: tuple[str, ...], words: str) -> str | None:
    """Return the first of the phrases in `words`, whole; {label} in one represents each of `names`."""
    pattern = _phrase_pattern(phrases, names)
    found = pattern.search(plain(words)) if pattern else None
    return f'says "{found.group()}"' if found else None


@functools.lru_cache(maxsize=64)
def _phrase_pattern(phrases: tuple[str, ...], names: tuple[str, ...]) -> re.Pattern[str] | None:
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
    is_gold = answer.parse_source == GOLD_SOURCE
    applies = {"answer": True, "output": not is_gold, "reasoning": answer.parse_ok and not is_gold}
    if not applies[each.judges]:
        return Verdict(each.rule, rejected=False, detail="no reasoning to judge")
    detail = each.reject(answer, example, context)
    return Verdict(each.rule, rejected=detail is not None, detail=detail or "")


# Words such as "label", "given" and "hint" also occur in ordinary reasons ("the label on the bottle"). What
# gives an answer away is a label that precedes the reason, is a premise, or is attributed to the asker.
_WORDS = {
    "label": r"(?:labell?ings?|labels?|annotations?|classifications?)",
    "answer": r"(?:labell?ing|labels?|annotation|classification|answer|verdict|decision|judge?ment)",
    "outcome": r"(?:class|category|outcome|result|solution|prediction)",
    "known": r"(?:gold(?:en)?|true|correct|right|actual|reference|known|expected|intended|official|given"
    r"|provided|supplied|stated|shown|assigned|specified|indicated|revealed|target|pre-?assigned|required"
    r"|desired|predetermined|hinted|ground[- ]truth)",
    "passed": r"(?:gold(?:en)?|reference|known|given|provided|supplied|stated|shown|assigned|indicated"
    r"|hinted)",
    "shown": r"(?:given|provided|supplied|stated|shown|specified|indicated|revealed|disclosed|known|hinted"
    r"|fixed|predetermined|pre-?assigned|told)",
    "is": r"(?:is|was|being|equals|=|:)",
    "says": r"(?:says?|said|states?|stated|indicates?|indicated|tells?|told|shows?|showed|suggests?|suggested"
    r"|confirms?|confirmed|reveals?|revealed|gives?|gave|specif(?:y|ies|ied)|mentions?|mentioned|implies"
    r"|implied|points)",
    "we_are": r"(?:(?:we|i)(?: are| were| was| am| have been| had been|'ve been|'re|'m)(?: already)?)",
    "the": r"(?:the|this|that|its|your|our|an?)",
    "it": r"(?:it|this|the (?:text|message|example|post|review|sentence|e-?mail|comment|document|pair|case))",
    "asker": r"(?:prompt|user|task|question|request|asker|instructor|hint)",
    "since": r"(?:(?:since|because|as|given|knowing|seeing|considering|assuming|with|now)(?: that)?)",
    "marked": r"(?:labell?ed|annotated|marked|tagged|classified)",
    "applies": r"(?:(?:the |no )?rules? (?:do |does )?(?:not )?appl(?:y|ies)|[a-z]{1,4}-?\d+ applies)",
}
_REVEALING = (
    # A label that is there before the reason: "the gold label", "the label that I was given".
    r"{known} (?:(?:gold|binary|class|final|target|correct|true) )?{label}(?!{of_thing})",
    r"ground[- ]truth|gold standard|answer key",
    r"{known} (?:(?:gold|correct|true) )?(?:{answer}|{outcome})(?: here)?(?: {is}| of)? {value}",
    r"{the} {passed} {answer} (?:says|states|indicates|shows|tells|must)",
    r"(?:consistent|in line|in accordance|aligns?|agrees?|based|in light|supports?|supported|matches|from)"
    r" (?:with |on |of |by )?{the} {passed} {answer}",
    r"{the} {label} (?:(?:that )?(?:was|is) )?{shown}(?= (?:{is}|{says}|as|to|above)(?!\w)|[,.;:]|$)",
    r"{the} {answer} (?:provided|given|supplied) {is} {value}",
    r"{the} {answer} (?:(?:that|which) )?{we_are} {shown}",
    r"{the} {answer} (?:is|was|has been)(?: already)? {shown}"
    r"(?= (?:as|to (?:me|us|be)|beforehand|above|and|so)(?!\w)|[.;:]|$| in (?:advance|the {asker}))",
    r"{the} {label} (?:is|was|has)(?: been)? already",
    r"{the} {label} of {value} (?:is|was|has been) {shown}",
    # A label as a premise: "since the answer is 1", "the label is 1, so", "as it is labeled spam".
    r"{since} (?:{the} )?(?:{known} )?{answer} {is} (?:{shown} (?:as|to be) )?{value}",
    r"{since} {the} {known} {answer} {is}",
    r"{premise}{the} (?:{known} )?{answer} {is} {value}[,;]?"
    r" (?:so|therefore|thus|hence|which means|(?:we|i) (?:must|need|have to))",
    r"(?:given|with|from) (?:the )?{answer} (?:of )?{value}|{the} {label} being {value}",
    r"{since} {it} (?:is|was|has been) (?:already )?{marked} (?:as )?{value}",
    r"(?:was|been|already) {marked} (?:as )?{value}|{marked} (?:as )?{value} in the {asker}",
    r"(?:given|knowing|provided) that {it} (?:is|was|should be|must be) {value}",
    r"the label (?:says|states|indicates|shows|tells (?:us|me)|confirms|reveals|implies|means|requires)"
    r" (?:that )?(?:(?:{it} (?:is|should be|must be) )?{value}|{applies})",
    r"{value} as (?:given|provided|stated|told)|(?:solution|key) {says} {value}",
    # A statement of the asker: "we are told that", "I was given the label", "as you said".
    r"{we_are} (?:told|informed|advised) (?:that|of the|about the|by the|{the} (?:{known} )?{answer})",
    r"{we_are} (?:told|informed|advised) (?:{it} (?:is|was|should be) {value}|{applies})",
    r"as {we_are} (?:told|informed|instructed)",
    r"{we_are} (?:given|shown|provided(?: with)?|handed|supplied with) (?:that )?{the} (?:{known} )?{answer}",
    r"{we_are} (?:asked|required|supposed|meant|expected|instructed|told) to"
    r" (?:justify|defend|explain why|argue (?:for|that)|find reasons|give reasons)",
    r"as you(?: have|'ve)?(?: already)?"
    r" (?:said|stated|indicated|told|mentioned|specified|gave|given|provided|noted)",
    r"you (?:have |already )?(?:told|informed) (?:me|us)",
    r"you (?:have )?(?:gave|given|provided|indicated|specified|showed|shown)(?: (?:me|us))?(?: with)?"
    r" {the} (?:{known} )?{answer}",
    r"as (?:(?:was|is|has been) )?(?:already )?(?:{shown}|said) (?:in|by|with) (?:the |your |this )?{asker}",
    r"the {asker} (?:has |have )?{says}(?: (?:us|me))?(?: that)? {the} (?:{known} )?{answer}",
    r"the {asker} (?:has |have )?{says}(?: (?:us|me))?(?: that)? {it}(?:'s| is| was| should be) {value}",
    r"it (?:is|was|has been) (?:given|stated|said|indicated|specified|provided) that {the} {answer}",
    r"(?:according to|as per|per) (?:the )?(?:annotations?|annotators?|dataset|labell?ers?|answer given)",
    r"(?:annotators?|labell?ers?|dataset) (?:says?|said|marked|labell?ed|labels?|assigned|chose|decided)",
    # The default hint: "The answer is 1. Give the reasons ... as if you had found it yourself."
    r"(?:the|this|that|your|my) (?:(?:given|provided|above) )?hints? (?:given |provided )?"
    r"(?:{says}|{is} (?:{value}|(?:that )?(?:the )?(?:{answer}|{applies})))|as hinted",
    r"(?:according to|as per|per|based on|following|using|from|given|by|with|considering|despite|thanks to)"
    r" (?:the|this|that|your) (?:(?:given|provided|above) )?hints?(?! (?:of|at|about|to|that|in)(?!\w))",
    r"^the answer {is} {value}(?=[.;,:])",
    r"as (?:if|though) (?:i|we)(?: had|'d)? (?:found|reached|worked|discovered|derived|not)",
    r"found it (?:myself|ourselves|yourself)|(?:that|which) the \w+ and the rules offer",
    # A reason that is fitted to a label that is known.
    r"(?:to|must|should|can|will) (?:justify|rationali[sz]e|defend|arrive at) {the} (?:{known} )?{answer}",
    r"(?:know|knew|known|knowing|aware)(?: already)?(?: that| of)? (?:the|its) (?:{known} )?{label}"
    r"(?= {is}(?!\w)|[,.;]|$)",
    r"(?:know|knew|known|knowing|aware)(?: already)?(?: that| of)? (?:the|its) (?:{known} )?{answer}"
    r" (?:{is} {value}|in advance|beforehand)",
    r"(?:work|reason)\w* back(?:wards?)? from {the} (?:{known} )?{answer}",
)
_THINGS = (
    "address allergen back bottle brand care clothing design drug energy fashion food front mailing name"
    " nutrition package packaging parcel postage prescription price private product record return safety"
    " shipping warning white wine"
)
_PRODUCT = frozenset(_THINGS.split())
"""Words before "label" that make it one of a thing, and not of a text."""
_HANDLED = re.compile(
    r"(?:attach|affix|stick|print|peel|scan|remov|tear|read|design|sew|glue|download|sign)\w*"
)
_OF_THING = (
    r" (?:on|onto|inside|under|around|of|from) (?:the|an?|its|your|their|this|that|each|every|his|her)"
    r" (?!(?:text|message|example|task|prompt|post|review|sentence|e-?mail|comment|document|pair|case)\b)"
)


def revealed(reasoning: str, names: Sequence[str]) -> str | None:
    """Return the first words of a rationale that reveal a shown label; None if there are none.

    `names` are the names of both labels. Quotations are left out: they are words of the text.
    """
    words = plain(without_quotes(reasoning))
    for match in (m for pattern in _revealing_patterns(tuple(names)) for m in pattern.finditer(words)):
        before = [word.strip(",;:.(") for word in words[: match.start()].split()[-3:]]
        of_thing = _PRODUCT & {*before[-1:], *match.group().split()}
        if not of_thing and not any(map(_HANDLED.fullmatch, before)):
            return match.group()
    return None


@functools.lru_cache(maxsize=16)
def _revealing_patterns(names: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    always = (*BINARY.codes, *map(BINARY.title, BINARY))
    spelled = {plain(name) for name in (*names, *always)} - {""}
    values = sorted(spelled, key=lambda value: (-len(value), value))
    of = {
        **_WORDS,
        "value": rf"(?:an? |the )?(?:{'|'.join(map(re.escape, values))})(?!\w)",
        "of_thing": _OF_THING,
        "premise": r"(?<!so )(?<!thus )(?<!hence )(?<!therefore )(?<!therefore, )",
    }
    patterns = list(_REVEALING)
    for name, words in (*of.items(), *of.items()):  # twice: words contain words
        patterns = [pattern.replace(f"{{{name}}}", words) for pattern in patterns]
    return tuple(re.compile(rf"(?<!\w)(?:{pattern})(?!\w)") for pattern in patterns)
