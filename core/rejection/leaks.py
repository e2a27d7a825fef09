"""Wordings that reveal a label which the teacher was shown, where a reason should come from the text.

Words such as "label", "given" and "hint" also occur in ordinary reasons ("the label on the bottle"). What
gives an answer away is a label that is there before the reason, is a premise, or is attributed to the asker.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence

from core.labels import BINARY
from core.rejection.cited import plain, without_quotes

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
_PATTERNS = (
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
    found = (m for pattern in _patterns(tuple(names)) for m in _found(pattern, words))
    return next(found, None)


def _found(pattern: re.Pattern[str], words: str) -> Iterator[str]:
    """Yield the matches that are not about the label of a thing."""
    for match in pattern.finditer(words):
        before = [word.strip(",;:.(") for word in words[: match.start()].split()[-3:]]
        of_thing = _PRODUCT & {*before[-1:], *match.group().split()}
        if not of_thing and not any(map(_HANDLED.fullmatch, before)):
            yield match.group()


@functools.lru_cache(maxsize=16)
def _patterns(names: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    always = (*BINARY.codes, *map(BINARY.title, BINARY))
    spelled = {plain(name) for name in (*names, *always)} - {""}
    values = sorted(spelled, key=lambda value: (-len(value), value))
    of = {
        **_WORDS,
        "value": rf"(?:an? |the )?(?:{'|'.join(map(re.escape, values))})(?!\w)",
        "of_thing": _OF_THING,
        "premise": r"(?<!so )(?<!thus )(?<!hence )(?<!therefore )(?<!therefore, )",
    }
    return tuple(re.compile(rf"(?<!\w)(?:{_filled(pattern, of)})(?!\w)") for pattern in _PATTERNS)


def _filled(pattern: str, words: dict[str, str]) -> str:
    """Return a pattern with its words filled in, twice: words contain words."""
    for name, spelled in (*words.items(), *words.items()):
        pattern = pattern.replace(f"{{{name}}}", spelled)
    return pattern
