"""The conversation that the student learns: its answers, and what a chat template writes around them.

Answers are written and parsed back. A prompt is all that the template writes before an assistant's answer
when it renders the whole conversation: what it renders with `add_generation_prompt`, or more, for instance a
space or an empty reasoning block.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle, product
from typing import TYPE_CHECKING, Literal

from core.errors import ModelError, PromptError
from core.prompts import TEXT_SLOT, Message, TargetWording
from core.records import BINARY, LabelSet
from core.student.tokenizer import ChatTokenizer

if TYPE_CHECKING:
    from core.student.encoding import Encoder

log = logging.getLogger(__name__)

Target = Literal["label_only", "label_first", "reason_first"]
_ANSWER_SLOT = "⟦understudy:answer⟧"
_EDGES = (" ", "\n", "\t\n ", "\u00a0")
_SAMPLE_TEXTS = (
    "See you at noon.",
    " spaces around ",
    "\nline\n\nbreaks\n",
    'He said: "it\'s <b>free</b> & {{ x }} {% y %}"',
    "naïve 日本 😀",
)
_SAMPLE_REASONS = ("It says so [R1].", 'The words "call now"\ndecide.', "{close}{label}{open}")


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


@dataclass(frozen=True, slots=True)
class ChatFrame:
    """Marked template text (see ControlTokens) before the text, between text and answer, and after it.

    `trail` is the whitespace between answer and end of turn; `end_mark` is empty if the tokenizer's end of
    text ends an answer because the template does not.
    """

    head: str
    tail: str
    trail: str
    end_mark: str
    end_of_turn: int
    trims_start: bool = False
    trims_end: bool = False

    def prompt(self, text: str) -> str:
        """Return the marked prompt of a text."""
        text = text.lstrip() if self.trims_start else text
        text = text.rstrip() if self.trims_end else text
        return f"{self.head}{text}{self.tail}"


def read_frame(tokenizer: ChatTokenizer, messages: Sequence[Message]) -> ChatFrame:
    """Render `messages`, which contain TEXT_SLOT, with an answer, and split the result around both.

    Raises PromptError if the text is not shown exactly once, ModelError if the template cannot be trained on.
    """
    head, tail, after = _split(tokenizer, messages)
    trail, mark, end = tokenizer.control.first_mark(after)
    if trail.strip():
        shown = tokenizer.control.plain(after).strip()
        raise refused(
            tokenizer,
            f"ends an answer with {shown[:40]!r}, which does not begin with a special or added token of the "
            "tokenizer, so nothing would end an answer",
        )
    end = tokenizer.inner.eos_token_id if end is None else end
    if end is None:
        raise refused(tokenizer, "names no end of turn, and the tokenizer no end of text")
    prompt = tokenizer.control.plain(f"{head}{TEXT_SLOT}{tail}")
    generation_prompt = tokenizer.render(messages)
    if generation_prompt.rstrip() != prompt.rstrip():
        shown, written = (each.rpartition(TEXT_SLOT)[2][-60:] for each in (generation_prompt, prompt))
        message = (
            "the chat template in %s ends a prompt with %r, but writes %r before an answer: the student is "
            "trained and asked with the latter"
        )
        log.info(message, tokenizer.folder, shown, written)
    start, stop = _stripped_sides(tokenizer, messages, head, tail)
    return ChatFrame(head, tail, trail, mark, end, trims_start=start, trims_end=stop)


def _split(tokenizer: ChatTokenizer, messages: Sequence[Message]) -> tuple[str, str, str]:
    """Return the marked texts before TEXT_SLOT, between it and the answer, and after the answer."""
    control, turns = tokenizer.control, [*messages, Message("assistant", _ANSWER_SLOT)]
    hidden = [Message(m.role, control.hide(m.content)) for m in turns]
    marked = control.show(control.mark(tokenizer.render(hidden, generate=False)))
    head, slot, rest = marked.partition(TEXT_SLOT)
    if not slot or TEXT_SLOT in rest:
        raise PromptError(
            f"the chat template in {tokenizer.folder} does not show the text exactly once; see student.model"
        )
    tail, slot, after = rest.partition(_ANSWER_SLOT)
    if not slot or _ANSWER_SLOT in after:
        raise refused(tokenizer, "does not show the answer exactly once, after the text")
    return head, tail, after


def _stripped_sides(
    tokenizer: ChatTokenizer, messages: Sequence[Message], head: str, tail: str
) -> tuple[bool, bool]:
    """Whether the template strips whitespace from the beginning and from the end of a text."""
    possible = {(start, end) for start in (True, False) for end in (True, False)}
    for edge in _EDGES:
        text = f"{edge}{TEXT_SLOT}{edge}"
        padded = [replace(m, content=m.content.replace(TEXT_SLOT, text)) for m in messages]
        padded_head, padded_tail, _ = _split(tokenizer, padded)
        possible = {
            (start, end)
            for start, end in possible
            if padded_head == head + ("" if start else edge) and padded_tail == ("" if end else edge) + tail
        }
    if not possible:
        raise refused(tokenizer, "changes some of the whitespace around a text")
    return possible.pop()


def check_round_trip(encoder: Encoder) -> None:
    """Check that sample answers are read back, and that conversations keep their tokens as a whole.

    Raises ModelError.
    """
    words, labels = encoder.wording, encoder.labels
    block = f"{words.label_open}{labels.codes[0]}{words.label_close}"
    tags = {"open": words.reason_open, "close": words.reason_close, "label": block}
    reasons = [reason.format(**tags) for reason in _SAMPLE_REASONS]
    prompt = encoder.prompt_tokens(_SAMPLE_TEXTS[0])
    for reason, label in product(reasons, labels):
        *tokens, last = encoder.conversation(_SAMPLE_TEXTS[0], label, reason)[len(prompt) :]
        stops, answer = encoder.stop_tokens, encoder.answer(label, reason)
        early = next((i for i, token in enumerate(tokens) if token in stops), None)
        if early is not None or last not in stops:
            raise refused(
                encoder.tokenizer,
                f"ends the student's answer too early: only {encoder.tokenizer.decode(tokens[:early])!r} "
                f"is read of {answer!r}",
            )
        raw, parsed = encoder.read(tokens)
        if parsed.label != label or (parsed.reasoning is None) != (encoder.target == "label_only"):
            raise refused(
                encoder.tokenizer,
                f"does not give the student's answer back: {answer!r} is read as {raw!r}",
                "or choose other tags (target in the prompts file)",
            )
    texts = [text for text in _SAMPLE_TEXTS if encoder.tokenizer.control.hide(text) == text]
    for i, (text, reason) in enumerate(zip(texts, cycle(reasons[:2]))):
        _check_tokens(encoder, text, i % len(labels), reason)


def _check_tokens(encoder: Encoder, text: str, label: int, reason: str) -> None:
    """Compare a conversation's tokens with those of the text that the template renders as a whole."""
    tokenizer, chat, answer = encoder.tokenizer, encoder.chat, encoder.answer(label, reason)
    messages = encoder.prompt_messages(text)
    whole = tokenizer.render([*messages, Message("assistant", answer)], generate=False)
    expected = tokenizer.control.plain(f"{chat.prompt(text)}{answer}{chat.trail}")
    if not whole.startswith(expected):
        at = next((i for i, (a, b) in enumerate(zip(whole, expected, strict=False)) if a != b), len(whole))
        shown, found = (each[max(at - 20, 0) : at + 20] for each in (expected, whole))
        raise refused(
            tokenizer, f"does not show texts and answers as they are ({shown!r} comes out as {found!r})"
        )
    if any(tokenizer.control.hide(m.content) != m.content for m in messages):
        return  # a rulebook that names control tokens: only the tokenizer would read them as such
    ids = tuple(tokenizer.inner(whole, add_special_tokens=False)["input_ids"])
    tokens, prompt = encoder.conversation(text, label, reason), encoder.prompt_tokens(text)
    shared = tokens if chat.end_mark else tokens[:-1]
    if ids[: len(shared)] != shared or tokens[: len(prompt)] != prompt:
        raise refused(
            tokenizer,
            f"is tokenized otherwise as a whole than in the parts that the student sees (text {text!r})",
        )


def refused(tokenizer: ChatTokenizer, problem: str, remedy: str = "") -> ModelError:
    return ModelError(
        f"the chat template in {tokenizer.folder} {problem}: set student.tokenizer to a folder with another "
        f"template, or correct it there{', ' if remedy else ''}{remedy}"
    )
