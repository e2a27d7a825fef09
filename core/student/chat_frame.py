"""Read what a chat template writes around a text and an answer, and check that both survive it.

A prompt is all that the template writes before an assistant's answer when it renders the whole conversation:
what it renders with `add_generation_prompt`, or more, for instance a space or an empty reasoning block.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import TYPE_CHECKING

from core.errors import ModelError, PromptError
from core.prompts import TEXT_SLOT, Message
from core.student.tokenizer import ChatTokenizer

if TYPE_CHECKING:
    from core.student.encoding import Encoder

log = logging.getLogger(__name__)

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
    for reason in reasons:
        for label in labels:
            _check_answer(encoder, label, reason)
    texts = [text for text in _SAMPLE_TEXTS if encoder.tokenizer.control.hide(text) == text]
    for i, (text, reason) in enumerate(zip(texts, cycle(reasons[:2]))):
        _check_tokens(encoder, text, i % len(labels), reason)


def _check_answer(encoder: Encoder, label: int, reason: str) -> None:
    prompt = encoder.prompt_tokens(_SAMPLE_TEXTS[0])
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
