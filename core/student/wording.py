"""How the student writes its answer, and how the answer is read back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from core.labels import BINARY, LabelSet
from core.prompts import TargetWording


@dataclass(frozen=True, slots=True)
class Said:
    """What an answer says; None for a part that it does not hold whole."""

    label: int | None
    reasoning: str | None


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of an answer: `kind` is "label" for the label block, "wording" for the other tags and the
    separator, and "reason" for words that come from outside."""

    text: str
    kind: str


def write_answer(code: str, reasoning: str, wording: TargetWording, target: str) -> Iterator[Part]:
    """The pieces of an answer in order; joined, they are the text that `read_answer` reads.

    `code` is the label's.

    The tag that ends a reasoning is escaped inside it (`</reason>` becomes `<\\/reason>`), so that a
    reasoning cannot end itself; `read_answer` takes the escape out again.
    """
    block = Part(f"{wording.label_open}{code}{wording.label_close}", "label")
    if target == "label_only":
        yield block
        return
    reason = (
        Part(wording.reason_open, "wording"),
        Part(_escaped(reasoning.strip(), wording.reason_close), "reason"),
        Part(wording.reason_close, "wording"),
    )
    separator = Part(wording.separator, "wording")
    yield from (*reason, separator, block) if target == "reason_first" else (block, separator, *reason)


def read_answer(raw: str, wording: TargetWording, target: str, labels: LabelSet = BINARY) -> Said:
    """Return label and reasoning of a generated answer.

    A label counts only where the target puts it: at the very beginning, or after the closed
    reasoning; a label block inside a reasoning is not an answer.
    """
    reason = re.compile(f"{re.escape(wording.reason_open)}(.*?){re.escape(wording.reason_close)}", re.DOTALL)
    label = re.compile(
        rf"\s*{re.escape(wording.label_open)}\s*({labels.pattern})\s*{re.escape(wording.label_close)}"
    )
    found_reason = reason.search(raw)
    reasoning = _plain(found_reason.group(1).strip(), wording.reason_close) if found_reason else None
    if target != "reason_first":
        found = label.match(raw)
    elif found_reason:
        found = label.match(raw, found_reason.end())
    else:
        found = None
    return Said(labels.index(found.group(1)) if found else None, reasoning)


def _escaped(text: str, tag: str) -> str:
    """`text` without `tag`, also where its end and the tag after it would form one too early.

    A backslash follows the first character of each occurrence, escaped before or not. A tag of one
    character is written as a backslash and a dash.
    """
    escape = _escape_of(tag)
    if len(tag) == 1:
        return text.replace(escape, escape * 2).replace(tag, escape + _stand_in(tag))
    found = re.sub(f"{re.escape(tag[0])}(?={_rest(tag)})", lambda m: m.group() + escape, text + tag[:-1])
    return found[: len(found) - len(tag) + 1]


def _plain(text: str, tag: str) -> str:
    """The inverse of `_escaped`."""
    escape = _escape_of(tag)
    if len(tag) == 1:
        meant = {escape * 2: escape, escape + _stand_in(tag): tag}
        return re.sub("|".join(map(re.escape, meant)), lambda m: meant[m.group()], text)
    pattern = f"({re.escape(tag[0])}){re.escape(escape)}(?={_rest(tag)})"
    found = re.sub(pattern, lambda m: m.group(1), text + tag[:-1])
    return found[: len(found) - len(tag) + 1]


def _escape_of(tag: str) -> str:
    return next(c for c in ("\\", "/", "~", "^") if c not in tag or c == "^")


def _stand_in(tag: str) -> str:
    return "-" if tag != "-" else "+"


def _rest(tag: str) -> str:
    """The tag after its first character, escaped or not."""
    escapes = f"{re.escape(_escape_of(tag))}*"
    return escapes + "".join(re.escape(c) + (escapes if c == tag[0] else "") for c in tag[1:])
