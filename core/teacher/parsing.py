"""Parse an output into reasoning and label, by fixed rules that are tried in a fixed order.

JSON (whole, fenced or inside other text), then <label> tags, then the configured pattern, all outside of
reasoning blocks; a truncated or broken answer is an error, and so are two labels that differ.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from core.completions.chat import ending
from core.config import ParseConfig
from core.records import BINARY, LabelSet

_THINK = ("think", "thinking")
_REASON = ("reason", "reasoning", "rationale")
_LABEL = re.compile(r"<label>([^<]*)</label>", re.IGNORECASE)
_MARKS = "'\"`*.,:;-–— \t\r\n"
# What separates a label from the reasons after it: closing marks, then separate marks. A quote after a space
# opens the first quotation of the reasons.
_AFTER_LABEL = re.compile(r"['\"`*)\].,:;\-–—]*\s*(?:[.,:;\-–—]+\s+)*")
_OPEN_LABEL = re.compile(r"<label>", re.IGNORECASE)
_AROUND = " \t\r\n\"'`*.,:;()[]"

# Objects tried inside a text; real answers contain one, and hostile ones should not cost minutes.
_MOST_OBJECTS = 50
_MOST_LENIENT = 5
_FENCE = re.compile(r"\A```[A-Za-z0-9_-]*\s*")
_OBJECT = re.compile(r"\{\s*\"")
_TRAILING_COMMA = re.compile(r",\s*[}\]]")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|["\]{},]', re.DOTALL)
_ANSWER = re.compile(r"\{\s*\"(?:reasoning|label)\"", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """The content of an output. If `ok` is False, label and reasoning are None and `error` is the reason."""

    ok: bool
    source: str | None
    label: int | None
    reasoning: str | None
    error: str | None


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


@dataclass(frozen=True, slots=True)
class _Found:
    """Label values and reasoning as an output contains them, not yet checked; or an error."""

    source: str
    labels: tuple[object, ...] = ()
    reasoning: object = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class _Block:
    """A text split into what is inside a tag and what is outside. `inside` None: no such tag."""

    inside: str | None
    outside: str
    closed: bool = True


@dataclass(frozen=True, slots=True)
class _Object:
    """A JSON object's answer, every value under the name in order, and where in a text it begins and ends."""

    labels: tuple[object, ...]
    reasonings: tuple[object, ...]
    begin: int = 0
    end: int = 0

    @classmethod
    def of(cls, pairs: list[tuple[str, Any]]) -> _Object:
        """Keep both of two equal keys; a dict would silently keep the last."""
        return cls(
            tuple(v for k, v in pairs if k.casefold() == "label"),
            tuple(v for k, v in pairs if k.casefold() == "reasoning"),
        )


def parse(raw: str, rules: ParseConfig, names: LabelNames) -> ParsedAnswer:
    """Parse `raw`; never raises. Errors: empty, truncated, broken_json, no_label, no_reasoning,
    reasoning_not_text, several_labels, unknown_label: <the value>.
    """
    text = clean(raw)
    ends = [at for stop in rules.stop if (at := text.find(stop)) >= 0]
    text = text[: min(ends, default=len(text))].strip()
    if not text:
        return _failed("empty")
    found = _whole_json(text)
    if found is None:
        think = _block(text, _THINK)
        answer = think.outside.strip()
        reason = _block(answer, _REASON)
        found = (
            _whole_json(answer)
            or _answer_of("json_inside", _answers(reason.outside))
            or _find_tags(think, reason)
            or _broken_json(reason.outside.strip())
            or _find_pattern(think, reason, rules)
            or _Found("none", error="no_label")
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
        # Objects before the last one are drafts.
        end = text.removesuffix("```").rstrip()
        last = [each for each in _answers(end) if each.end == len(end)] if end.endswith("}") else []
        found = _whole_json(text) or _answer_of("reasoning_json", last[:1])
        if found is not None:
            return _settle(replace(found, source="reasoning_json"), names)
    parsed = parse(raw, rules, names)
    return parsed if parsed.ok or how != "truncated" else _failed("truncated", parsed.source)


def clean(text: str) -> str:
    """Return the text with half surrogate pairs replaced, so that it can be written as UTF-8."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def read_fields(label: object, reasoning: object, names: LabelNames) -> ParsedAnswer:
    """Parse recorded fields instead of an output: the same checks, source "fields"."""
    return _settle(_Found("fields", (label,), reasoning), names)


def _failed(error: str, source: str | None = None) -> ParsedAnswer:
    return ParsedAnswer(False, source, None, None, error)


def _settle(found: _Found, names: LabelNames) -> ParsedAnswer:
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
        # Tags in the strings of an answer's object are reasoning.
        objects = _answers(text) if marks else []
        marks = [m for m in marks if not any(found.begin < m.start() < found.end for found in objects)]
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


def _find_tags(think: _Block, reason: _Block) -> _Found | None:
    if not (think.closed and reason.closed):
        return _Found("none", error="truncated")
    text = reason.outside
    opened, answer = _OPEN_LABEL.search(text), _ANSWER.search(text)
    if opened is None or (answer is not None and answer.start() < opened.start()):
        return None
    labels = tuple(m.group(1) for m in _LABEL.finditer(text))
    rest = _LABEL.sub(" ", text)
    if _OPEN_LABEL.search(rest):
        return _Found("none", error="truncated")
    if reason.inside is not None:
        return _Found("reason_label", labels, reason.inside)
    if think.inside is not None:
        return _Found("think_label", labels, think.inside)
    return _Found("label_tag", labels, rest)


def _find_pattern(think: _Block, reason: _Block, rules: ParseConfig) -> _Found | None:
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
    return _Found("pattern", (label,), reason.inside or around or think.inside or "")


def _whole_json(text: str) -> _Found | None:
    """The answer of a text that is one JSON object, or one in a code fence; None for other texts.

    Key names may be in upper case, other keys are ignored, line breaks inside strings are accepted,
    and trailing commas are removed.
    """
    if (whole := _load(text)) is not None:
        return _answer_of("json", [whole])
    fenced = text.startswith("```") and text.endswith("```")
    whole = _load(_FENCE.sub("", text[:-3])) if fenced else None
    return None if whole is None else _answer_of("json_fenced", [whole])


def _broken_json(text: str) -> _Found | None:
    """The error `truncated` or `broken_json` if an answer's object begins but cannot be read."""
    text = _FENCE.sub("", text)
    begin = _ANSWER.search(text)
    if begin is None and not text.startswith("{"):
        return None
    ends = text.rstrip().removesuffix("```").rstrip().endswith("}")
    broken = ends or _scan(text, begin.start() if begin else 0)[0] > 0
    return _Found("none", error="broken_json" if broken else "truncated")


_DECODER = json.JSONDecoder(object_pairs_hook=_Object.of, strict=False)


def _load(text: str) -> _Object | None:
    """The object that is the whole text, also as JSON inside a JSON string, or with trailing commas."""
    try:
        value = _DECODER.decode(text)
        value = _DECODER.decode(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        found = _lenient(text, 0) if text.startswith("{") else None
        return found if found is not None and found.end == len(text.rstrip()) else None
    return value if isinstance(value, _Object) else None


def _lenient(text: str, begin: int) -> _Object | None:
    """The object at `begin` without its trailing commas; None without any, or if it is still broken."""
    if _TRAILING_COMMA.search(text, begin) is None:
        return None
    end, commas = _scan(text, begin)
    if not end or not commas:
        return None
    bounds = [begin, *(place for comma in commas for place in (comma, comma + 1)), end]
    kept = "".join(text[a:b] for a, b in zip(bounds[::2], bounds[1::2], strict=True))
    try:
        value = _DECODER.decode(kept)
    except (ValueError, RecursionError):
        return None
    return replace(value, begin=begin, end=end) if isinstance(value, _Object) else None


def _scan(text: str, begin: int) -> tuple[int, list[int]]:
    """Where the object at `begin` ends (0: nowhere), and its trailing commas outside of strings."""
    depth, comma, commas = 0, -1, list[int]()
    for token in _TOKEN.finditer(text, begin):
        kind = token.group()[0]
        if token.group() == '"':  # a string without an end
            return 0, []
        if kind in "]}" and comma >= 0 and not text[comma + 1 : token.start()].strip():
            commas.append(comma)
        comma = token.start() if kind == "," else -1
        depth += (kind == "{") - (kind == "}")
        if depth == 0:
            return token.end(), commas
    return 0, []


def _answers(text: str) -> list[_Object]:
    """The JSON objects inside a text that have a label or a reasoning."""
    found: list[_Object] = []
    at = lenient = 0
    for _ in range(_MOST_OBJECTS):
        begin = _OBJECT.search(text, at)
        if begin is None:
            break
        try:
            value, at = _DECODER.raw_decode(text, begin.start())
        except (ValueError, RecursionError):
            value = None
            if lenient < _MOST_LENIENT and _ANSWER.match(text, begin.start()):
                lenient, value = lenient + 1, _lenient(text, begin.start())
            at = begin.start() + 1 if value is None else value.end
        if value is not None and (value.labels or value.reasonings):
            found.append(replace(value, begin=begin.start(), end=at))
    return found


def _answer_of(source: str, objects: list[_Object]) -> _Found | None:
    """The answer of several objects, which must agree on the label; the first one's reasoning counts."""
    if not objects:
        return None
    labels = tuple(label for o in objects for label in o.labels)
    if not labels:
        return _Found(source, error="no_label")
    first = next(o for o in objects if o.labels)
    if len(set(map(repr, first.reasonings))) > 1:
        return _Found(source, error="several_reasonings")
    return _Found(source, labels, first.reasonings[0] if first.reasonings else None)
