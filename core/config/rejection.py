"""`rejection:`: which answers are not worth learning, as a list of named rules with their limits."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from core.config.base import Section


class Unparsed(Section):
    """The output could not be read as reasoning and label."""

    rule: Literal["unparsed"] = "unparsed"


class Truncated(Section):
    """The output was cut: by the token limit, or inside its JSON or tags."""

    rule: Literal["truncated"] = "truncated"


class LabelMismatch(Section):
    """The teacher's label is not the gold label."""

    rule: Literal["label_mismatch"] = "label_mismatch"


class TooShort(Section):
    """The reasoning is too short to explain anything."""

    rule: Literal["too_short"] = "too_short"
    min_chars: int = Field(20, ge=1)
    """Shortest reasoning, in characters without surrounding space."""


class TooLong(Section):
    """The reasoning is too long to be learnt."""

    rule: Literal["too_long"] = "too_long"
    max_chars: int = Field(2000, ge=1)
    """Longest reasoning, in characters."""


class NoRuleCited(Section):
    """The reasoning cites no rule of the rulebook."""

    rule: Literal["no_rule_cited"] = "no_rule_cited"


class UnknownRule(Section):
    """The reasoning cites a rule that the rulebook does not have."""

    rule: Literal["unknown_rule"] = "unknown_rule"


class QuoteNotInText(Section):
    """The reasoning quotes words that are not in the text."""

    rule: Literal["quote_not_in_text"] = "quote_not_in_text"
    min_chars: int = Field(3, ge=1)
    """Shorter quotations are not checked."""
    max_missing: int = Field(0, ge=0)
    """Quotations that may be missing from the text."""


class NamesGoldLabel(Section):
    """The reasoning speaks of the gold label, as only an answer that was shown it can."""

    rule: Literal["names_gold_label"] = "names_gold_label"
    phrases: tuple[str, ...] = (
        "gold label",
        "true label",
        "correct label",
        "given label",
        "provided label",
        "ground truth",
        "label is given",
    )
    """Phrases that give it away; upper and lower case are one. {label} in a phrase stands for each
    of the gold label's names, for instance "labelled as {label}"."""


class Refuses(Section):
    """The answer declines to judge."""

    rule: Literal["refuses"] = "refuses"
    phrases: tuple[str, ...] = (
        "i cannot",
        "i can't",
        "i can not",
        "i'm unable",
        "i am unable",
        "i'm sorry",
        "i am sorry",
        "as an ai",
        "as a language model",
    )
    """Phrases that a refusal begins with, looked for in its first 200 characters."""


class Repeats(Section):
    """The reasoning repeats one that was accepted before, in row order."""

    rule: Literal["repeats"] = "repeats"
    max_times: int = Field(1, ge=1)
    """How often the same reasoning (case and space aside) is accepted."""


class RevealsLabel(Section):
    """The reasoning reveals a label that was shown: calls it given, argues from it, or repeats the hint."""

    rule: Literal["reveals_label"] = "reveals_label"
    phrases: tuple[str, ...] = ()
    """Further phrases that give it away, for instance words of your own teacher_hint, in addition to those in
    core.rejection.leaks; upper and lower case are one. {label} stands for each of the gold label's names."""


RULES = (
    Unparsed,
    Truncated,
    LabelMismatch,
    TooShort,
    TooLong,
    NoRuleCited,
    UnknownRule,
    QuoteNotInText,
    NamesGoldLabel,
    Refuses,
    Repeats,
    RevealsLabel,
)
RULE_NAMES: tuple[str, ...] = tuple(str(r.model_fields["rule"].default) for r in RULES)


def _tuples(value: Any) -> Any:
    """Lists as tuples: what a validator has touched is checked as Python, where a list is no tuple."""
    if isinstance(value, dict):
        return {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}
    return value


def _rule_name(value: Any) -> str | None:
    name = value.get("rule") if isinstance(value, dict) else getattr(value, "rule", None)
    return str(name) if name is not None else None


RuleConfig = Annotated[
    Annotated[Unparsed, Tag("unparsed")]
    | Annotated[Truncated, Tag("truncated")]
    | Annotated[LabelMismatch, Tag("label_mismatch")]
    | Annotated[TooShort, Tag("too_short")]
    | Annotated[TooLong, Tag("too_long")]
    | Annotated[NoRuleCited, Tag("no_rule_cited")]
    | Annotated[UnknownRule, Tag("unknown_rule")]
    | Annotated[QuoteNotInText, Tag("quote_not_in_text")]
    | Annotated[NamesGoldLabel, Tag("names_gold_label")]
    | Annotated[Refuses, Tag("refuses")]
    | Annotated[Repeats, Tag("repeats")]
    | Annotated[RevealsLabel, Tag("reveals_label")],
    Discriminator(_rule_name),
]

# Cut outputs cannot be read either, so the narrower reason stands first.
DEFAULT_RULES: tuple[RuleConfig, ...] = (Truncated(), Unparsed(), LabelMismatch(), TooShort())
DEFAULT_HINTED: tuple[RuleConfig, ...] = (RevealsLabel(),)


class RejectionConfig(Section):
    """Rules in the order in which they count; every verdict is kept, the first one names the reason."""

    rules: tuple[RuleConfig, ...] = DEFAULT_RULES
    """A rule's name, or a mapping with `rule:` and its limits."""
    hinted: tuple[RuleConfig, ...] = DEFAULT_HINTED
    """Further rules for answers that were shown the gold label, after `rules`; [] for none."""

    @model_validator(mode="before")
    @classmethod
    def _names_are_rules(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        lists = {k: v for k, v in value.items() if k in ("rules", "hinted") and isinstance(v, list | tuple)}
        named = {
            k: tuple({"rule": r} if isinstance(r, str) else _tuples(r) for r in v) for k, v in lists.items()
        }
        return {**value, **named}

    @model_validator(mode="after")
    def _each_once(self) -> RejectionConfig:
        for rules in (self.rules, self.hinted):
            names = [r.rule for r in rules]
            twice = sorted({n for n in names if names.count(n) > 1})
            if twice:
                raise ValueError(f"{', '.join(twice)} stands twice in the list")
        return self
