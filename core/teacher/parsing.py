"""Parse an output into reasoning and label, by fixed rules that are tried in a fixed order.

JSON (whole, fenced or inside other text), then <label> tags, then the configured pattern, all outside of
reasoning blocks; a truncated or broken answer is an error, and so are two labels that differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from core.completions.reply import ending
from core.config.teacher import ParseConfig
from core.labels import BINARY, LabelSet
from core.teacher.answer_json import (
    FoundAnswer,
    answer_begin,
    answer_spans,
    broken_json,
    find_json_at_end,
    find_json_inside,
    find_whole_json,
)

_THINK = ("think", "thinking")
_REASON = ("reason", "reasoning", "rationale")
_LABEL = re.compile(r"<label>([^<]*)</label>", re.IGNORECASE)
_MARKS = "'\"`*.,:;-–— \t\r\n"
# What separates a label from the reasons after it: closing marks, then separate marks. A quote after a space
# opens the first quotation of the reasons.
_AFTER_LABEL = re.compile(r"['\"`*)\].,:;\-–—]*\s*(?:[.,:;\-–—]+\s+)*")
_OPEN_LABEL = re.compile(r"<label>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """The content of an output. If `ok` is False, label and reasoning are None and `error` is the reason."""

    ok: bool
    source: str | None
    label: int | None
    reasoning: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class _Block:
    """A text split into what is inside a tag and what is outside. `inside` None: no such tag."""

    inside: str | None
    outside: str
    closed: bool = True


def parse(raw: str, rules: ParseConfig, names: LabelNames) -> ParsedAnswer:
    """Parse `raw`; never raises. Errors: empty, truncated, broken_json, no_label, no_reasoning,
    reasoning_not_text, several_labels, unknown_label: <the value>.
    """
    text = clean(raw)
    ends = [at for stop in rules.stop if (at := text.find(stop)) >= 0]
    text = text[: min(ends, default=len(text))].strip()
    if not text:
        return _failed("empty")
    found = find_whole_json(text)
    if found is None:
        think = _block(text, _THINK)
        answer = think.outside.strip()
        reason = _block(answer, _REASON)
        found = (
            find_whole_json(answer)
            or find_json_inside(reason.outside)
            or _find_tags(think, reason)
            or broken_json(reason.outside.strip())
            or _find_pattern(think, reason, rules)
            or FoundAnswer("none", error="no_label")
        )
    return _settle(found, names)


def parse_reply(
    raw: str, thought: str | None, finish_reason: str | None, rules: ParseConfig, names: LabelNames
) -> ParsedAnswer:
    """Parse an answer as `parse` does, given the reasoning field `thought` and how the answer ended.

    If `raw` is empty, the JSON object with which `thought` ends is parsed: some servers put the whole answer
    there. More errors than those of `parse`: filtered and failed, whatever the text contains, and truncated
    for an answer that the token limit left unreadable.
    """
    how = ending(finish_reason)
    if how in ("filtered", "failed"):
        return _failed(how)
    if not raw.strip() and thought and how != "truncated":
        text = clean(thought).strip()
        found = find_whole_json(text) or find_json_at_end(text)
        if found is not None:
            return _settle(replace(found, source="reasoning_json"), names)
    parsed = parse(raw, rules, names)
    return parsed if parsed.ok or how != "truncated" else _failed("truncated", parsed.source)


def clean(text: str) -> str:
    """Return the text with half surrogate pairs replaced, so that it can be written as UTF-8."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def read_fields(label: object, reasoning: object, names: LabelNames) -> ParsedAnswer:
    """Parse recorded fields instead of an output: the same checks, source "fields"."""
    return _settle(FoundAnswer("fields", (label,), reasoning), names)


def _failed(error: str, source: str | None = None) -> ParsedAnswer:
    return ParsedAnswer(False, source, None, None, error)


def _settle(found: FoundAnswer, names: LabelNames) -> ParsedAnswer:
    if found.error:
        return _failed(found.error)
    labels = [names.read(value) for value in found.labels]
    for value, label in zip(found.labels, labels, strict=True):
        if label is None:
            shown = "a list" if isinstance(value, list) else "an object"
            if isinstance(value, str | int | float) or value is None:
                shown = clean(str(value)).strip()[:40]
            return _failed(f"unknown_label: {shown}", found.source)
    if len(set(labels)) > 1:
        return _failed("several_labels", found.source)
    if not isinstance(found.reasoning, str):
        error = "no_reasoning" if found.reasoning is None else "reasoning_not_text"
        return _failed(error, found.source)
    return ParsedAnswer(True, found.source, labels[0], clean(found.reasoning).strip(), None)


def _block(text: str, tags: tuple[str, ...]) -> _Block:
    """Split the text at the first of `tags` that it uses: all its blocks are removed, the first counts.

    A closing tag alone ends a block that began with the text, as its opening may be in the prompt; an opening
    tag alone leaves the block unclosed.
    """
    for tag in tags:
        marks = list(re.finditer(rf"<(/?){tag}>", text, re.IGNORECASE))
        spans = answer_spans(text) if marks else []
        marks = [m for m in marks if not any(begin < m.start() < end for begin, end in spans)]
        if marks:
            break
    else:
        return _Block(None, text)
    outside: list[str] = []
    inside: list[str] = []
    at, opened = 0, False
    for mark in marks:
        before = text[at : mark.start()]
        if mark.group(1) == "":
            if opened:
                continue
            outside.append(before)
        elif opened:
            inside.append(before)
        else:
            inside.append(" ".join([*outside, before]))
            outside.clear()
        opened, at = mark.group(1) == "", mark.end()
    (inside if opened else outside).append(text[at:])
    return _Block(inside[0], " ".join(outside), closed=not opened)


def _find_tags(think: _Block, reason: _Block) -> FoundAnswer | None:
    if not (think.closed and reason.closed):
        return FoundAnswer("none", error="truncated")
    text = reason.outside
    opened, json_at = _OPEN_LABEL.search(text), answer_begin(text)
    if opened is None or (json_at is not None and json_at < opened.start()):
        return None
    labels = tuple(m.group(1) for m in _LABEL.finditer(text))
    rest = _LABEL.sub(" ", text)
    if _OPEN_LABEL.search(rest):
        return FoundAnswer("none", error="truncated")
    if reason.inside is not None:
        return FoundAnswer("reason_label", labels, reason.inside)
    if think.inside is not None:
        return FoundAnswer("think_label", labels, think.inside)
    return FoundAnswer("label_tag", labels, rest)


def _find_pattern(think: _Block, reason: _Block, rules: ParseConfig) -> FoundAnswer | None:
    """The reasoning is the reasoning block, or the text before the match, or, with nothing before it, after
    it: in a recorded run-on output what follows the answer belongs to another question.
    """
    text = reason.outside
    if rules.label_pattern is None:
        return None
    matches = list(re.finditer(rules.label_pattern, text))
    if not matches:
        return None
    match = matches[0] if rules.label_match == "first" else matches[-1]
    groups = match.groupdict()
    label = groups["label"] if "label" in groups else match.group(1 if match.re.groups else 0)
    before, after = text[: match.start()], _AFTER_LABEL.sub("", text[match.end() :], count=1)
    around = before if before.strip(_MARKS) else after
    return FoundAnswer("pattern", (label,), reason.inside or around or think.inside or "")


_AROUND = " \t\r\n\"'`*.,:;()[]"


class LabelNames:
    """All names of the labels, whatever their case.

    Of two labels with the same name the first one counts in this order: `more`, the labels' codes, their
    values in the data, and common words.
    """

    def __init__(self, labels: LabelSet = BINARY, more: Mapping[str, int] | None = None) -> None:
        negative = labels.negative
        self._labels = dict.fromkeys(("negative", "no", "false"), negative)
        self._labels |= dict.fromkeys(("positive", "yes", "true"), 1 - negative)
        for label in sorted(labels, reverse=True):
            self._labels |= {name.strip().casefold(): label for name in labels.values[label]}
        self._labels |= {code: labels.codes.index(code) for code in labels.codes}
        self._labels |= {name.strip().casefold(): label for name, label in (more or {}).items()}

    def read(self, value: Any) -> int | None:
        """Return the label that a JSON value or a word names, or None.

        Marks around a word (quotes, periods, asterisks) are ignored.
        """
        if isinstance(value, float) and value in (0.0, 1.0):
            value = int(value)
        if isinstance(value, bool | int):
            value = str(value)
        if not isinstance(value, str):
            return None
        word = value.strip().casefold()
        return self._labels.get(word, self._labels.get(word.strip(_AROUND)))
