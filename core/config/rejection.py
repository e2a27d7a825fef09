"""`rejection:`: which teacher answers are not learned, as a list of named rules with their settings."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BeforeValidator, SerializeAsAny, ValidationError, WithJsonSchema, model_validator
from pydantic_core import InitErrorDetails

from core.config.section import ConfigSection, register_settings
from core.records import BINARY, Example, LabelSet, TeacherAnswer
from core.registry import Registry


@dataclass(frozen=True, slots=True)
class RuleContext:
    """What a rule may use besides the answer and its example.

    `rule_ids` are the ids in the rulebook, `labels` the labels with their names, and `times_accepted` counts
    how often a reasoning was accepted before, in row order.
    """

    rule_ids: tuple[str, ...] = ()
    labels: LabelSet = BINARY
    times_accepted: Callable[[str], int] = lambda reasoning: 0


class RejectionRule(ConfigSection):
    """Base class of rejection rules: the fields are the settings, and `reject` is the rule.

    A subclass is registered with `@rule`. Its docstring and those of its fields document it.
    """

    judges: ClassVar[Literal["answer", "output", "reasoning"]] = "reasoning"
    """Which answers the rule judges: all of them; all that a model wrote, parsed or not; or those whose
    reasoning was parsed."""
    needs_rule_ids: ClassVar[bool] = False
    """Whether the rule needs a rulebook with rule ids."""
    counts_accepted: ClassVar[bool] = False
    """Whether the rule uses `RuleContext.times_accepted`."""
    remedy: ClassVar[str] = ""
    """What to change if the rule rejects too much, as an imperative clause; {again} represents getting
    more answers, {longer} getting longer ones."""
    version: ClassVar[int] = 1
    """Part of the cache key if the rule is not built in; raise it when the verdicts change."""

    rule: str = ""
    """The rule's name, which `@rule` sets."""

    @abstractmethod
    def reject(self, answer: TeacherAnswer, example: Example, context: RuleContext) -> str | None:
        """Return in a few words why the answer is rejected; None if it is not."""

    def key_extras(self) -> dict[str, Any]:
        """Return what identifies the code of a rule that is not built in, for cache keys."""
        code = RULES.provenance(self.rule)
        return {"code": code, "version": self.version} if code else {}


RULES: Registry[type[RejectionRule]] = Registry(
    "rejection rule", "understudy.rules", modules=("core.rejection.rules",)
)
"""The rejection rules by name."""
_Rule = TypeVar("_Rule", bound=RejectionRule)


def rule(name: str) -> Callable[[type[_Rule]], type[_Rule]]:
    """Register a rejection rule, whose settings, verdict and remedy are one class.

    >>> @rule("shouts")
    ... class Shouts(RejectionRule):
    ...     '''The reasoning has too many exclamation marks.'''
    ...
    ...     max_marks: int = 3
    ...
    ...     def reject(self, answer, example, context):
    ...         marks = (answer.reasoning or "").count("!")
    ...         return f"{marks} exclamation marks" if marks > self.max_marks else None
    """

    return register_settings(RULES, "rule", name)


def _rule_settings(value: Any) -> Any:
    """Return the rule for a name, or for a mapping with `rule:` and settings."""
    if isinstance(value, str):
        value = {"rule": value}
    if not isinstance(value, dict):
        return value
    name = value.get("rule")
    if not isinstance(name, str):
        raise ValueError("a rule is a name, or a mapping with `rule:` and its settings")
    try:
        # As JSON, in which a list is a tuple even though types are strict.
        return RULES.get(name).model_validate_json(json.dumps(value), strict=True)
    except ValidationError as e:
        located = [
            InitErrorDetails(
                type=each["type"], loc=(name, *each["loc"]), input=each["input"], ctx=each.get("ctx", {})
            )
            for each in e.errors()
        ]
        raise ValidationError.from_exception_data(name, located) from e


RuleSettings = Annotated[
    SerializeAsAny[RejectionRule],
    BeforeValidator(_rule_settings),
    # Forms and checks of deployments' parameters cannot know which rules are installed where they run.
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "object", "properties": {"rule": {"type": "string"}}, "required": ["rule"]},
            ]
        }
    ),
]


class RejectionConfig(ConfigSection):
    """Rules in the order in which they count: all verdicts are stored, the first failure is the reason."""

    # A truncated output cannot be parsed either, so the narrower reason is first.
    rules: tuple[RuleSettings, ...] = ("truncated", "unparsed", "label_mismatch", "too_short")  # type: ignore[assignment]
    """A rule's name, or a mapping with `rule:` and its settings."""
    hinted: tuple[RuleSettings, ...] = ("reveals_label",)  # type: ignore[assignment]
    """Further rules for answers that were shown the gold label, after `rules`; [] for none."""

    @model_validator(mode="after")
    def _each_once(self) -> RejectionConfig:
        for rules in (self.rules, self.hinted):
            names = [r.rule for r in rules]
            twice = sorted({n for n in names if names.count(n) > 1})
            if twice:
                raise ValueError(f"{', '.join(twice)} is twice in the list")
        return self
