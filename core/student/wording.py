"""Write the student's answer, and parse it back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from core.labels import BINARY, LabelSet
from core.prompts import TargetWording

Target = Literal["label_only", "label_first", "reason_first"]


@dataclass(frozen=True, slots=True)
class ParsedCompletion:
    """Label and reasoning of an answer; None for a part that is missing or not closed."""

    label: int | None
    reasoning: str | None


@dataclass(frozen=True, slots=True)
class AnswerPart:
    """A piece of an answer: the label block, the reasoning itself, or other tags and the separator."""

    text: str
    kind: Literal["label", "reason", "wording"]


def write_answer(code: str, reasoning: str, wording: TargetWording, target: str) -> list[AnswerPart]:
    """Return the pieces of an answer in order; joined, they are the text that `parse_completion` reads.

    `code` is the label's. The tag that ends a reasoning is escaped inside it (`</reason>` becomes
    `<\\/reason>`), so that a reasoning cannot end itself; `parse_completion` removes the escape.
    """
    block = AnswerPart(f"{wording.label_open}{code}{wording.label_close}", "label")
    if target == "label_only":
        return [block]
    reason = [
        AnswerPart(wording.reason_open, "wording"),
        AnswerPart(_escape(reasoning.strip(), wording.reason_close), "reason"),
        AnswerPart(wording.reason_close, "wording"),
    ]
    separator = AnswerPart(wording.separator, "wording")
    return [*reason, separator, block] if target == "reason_first" else [block, separator, *reason]


def parse_completion(
    raw: str, wording: TargetWording, target: str, labels: LabelSet = BINARY
) -> ParsedCompletion:
    """Return label and reasoning of a generated answer.

    A label counts only where the target puts it: at the very beginning, or after the closed reasoning; a
    label block inside a reasoning is not an answer.
    """
    reason = re.compile(f"{re.escape(wording.reason_open)}(.*?){re.escape(wording.reason_close)}", re.DOTALL)
    label = re.compile(
        rf"\s*{re.escape(wording.label_open)}\s*({labels.pattern})\s*{re.escape(wording.label_close)}"
    )
    found_reason = reason.search(raw)
    reasoning = _unescape(found_reason.group(1).strip(), wording.reason_close) if found_reason else None
    if target != "reason_first":
        found = label.match(raw)
    else:
        found = label.match(raw, found_reason.end()) if found_reason else None
    return ParsedCompletion(labels.index(found.group(1)) if found else None, reasoning)


def _escape(text: str, tag: str) -> str:
    """Return `text` without `tag`, also where its end and the tag after it would form one too early.

    A backslash follows the first character of each occurrence, escaped before or not. A tag of one
    character is written as a backslash and a dash.
    """
    escape, dash = _escape_characters(tag)
    if len(tag) == 1:
        return text.replace(escape, escape * 2).replace(tag, escape + dash)
    found = re.sub(f"{re.escape(tag[0])}(?={_rest(tag)})", lambda m: m.group() + escape, text + tag[:-1])
    return found[: len(found) - len(tag) + 1]


def _unescape(text: str, tag: str) -> str:
    """Invert `_escape`."""
    escape, dash = _escape_characters(tag)
    if len(tag) == 1:
        original = {escape * 2: escape, escape + dash: tag}
        return re.sub("|".join(map(re.escape, original)), lambda m: original[m.group()], text)
    pattern = f"({re.escape(tag[0])}){re.escape(escape)}(?={_rest(tag)})"
    found = re.sub(pattern, lambda m: m.group(1), text + tag[:-1])
    return found[: len(found) - len(tag) + 1]


def _escape_characters(tag: str) -> tuple[str, str]:
    """Return a character that is not in the tag, and a substitute for a tag of one character."""
    escape = next(c for c in ("\\", "/", "~", "^") if c not in tag or c == "^")
    return escape, "-" if tag != "-" else "+"


def _rest(tag: str) -> str:
    """Return a pattern for the tag after its first character, escaped or not."""
    escapes = f"{re.escape(_escape_characters(tag)[0])}*"
    return escapes + "".join(re.escape(c) + (escapes if c == tag[0] else "") for c in tag[1:])
