"""What the chat template writes around a text and around an answer, and whether it leaves both as they are.

A prompt is all that the template writes before an assistant's answer when it renders the whole
conversation. This is what it renders with `add_generation_prompt`, or more: templates differ in whether
they begin the answer with a space or with an empty reasoning block.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from core.errors import ModelError, PromptError
from core.prompts import TEXT_SLOT, Message
from core.student.tokenizer import ChatTokenizer

log = logging.getLogger(__name__)

_ANSWER_SLOT = "⟦understudy:answer⟧"
_EDGES = (" ", "\n", "\t\n ", "\u00a0")


@dataclass(frozen=True, slots=True)
class ChatFrame:
    """Marked template text (see ControlTokens) before the text, between text and answer, and after it.

    `trail` is the whitespace between answer and end of turn; `end_mark` is empty where the template does not
    end an answer, and the tokenizer's end of text does.
    """

    head: str
    tail: str
    trail: str
    end_mark: str
    end_of_turn: int
    trims_start: bool = False
    trims_end: bool = False

    def prompt(self, text: str) -> str:
        """The marked prompt of a text."""
        return f"{self.head}{self.trimmed(text)}{self.tail}"

    def trimmed(self, text: str) -> str:
        """The text without the whitespace that the template takes from it."""
        text = text.lstrip() if self.trims_start else text
        return text.rstrip() if self.trims_end else text


def read_frame(tokenizer: ChatTokenizer, messages: Sequence[Message]) -> ChatFrame:
    """What the template writes around `messages`, which contain TEXT_SLOT, and around their answer.

    Raises PromptError where the text is not shown once, ModelError where the template cannot be trained on.
    """
    head, tail, after = _parts(tokenizer, messages)
    trail, end = tokenizer.control.first_mark(after)
    if trail.strip():
        shown = tokenizer.control.plain(after).strip()
        raise refused(
            tokenizer,
            f"ends an answer with {shown[:40]!r}, which does not begin with a special or added token of the "
            "tokenizer, so nothing would end an answer",
        )
    mark = "" if end is None else tokenizer.control.mark_of(end)
    end = tokenizer.inner.eos_token_id if end is None else end
    if end is None:
        raise refused(tokenizer, "names no end of turn, and the tokenizer no end of text")
    frame = ChatFrame(head, tail, trail, mark, end)
    _compare_with_generation(tokenizer, messages, frame)
    start, stop = _trims(tokenizer, messages, frame)
    return replace(frame, trims_start=start, trims_end=stop)


def check_rendering(
    tokenizer: ChatTokenizer, frame: ChatFrame, messages: Sequence[Message], text: str, answer: str
) -> str:
    """The conversation of `messages`, which contain `text`, as the template itself renders it whole.

    Raises ModelError where that is not the frame around text and answer.
    """
    whole = tokenizer.render([*messages, Message("assistant", answer)], generate=False)
    expected = tokenizer.control.plain(f"{frame.prompt(text)}{answer}{frame.trail}")
    if not whole.startswith(expected):
        at = next((i for i, (a, b) in enumerate(zip(whole, expected, strict=False)) if a != b), len(whole))
        shown, found = (each[max(at - 20, 0) : at + 20] for each in (expected, whole))
        raise refused(
            tokenizer, f"does not show texts and answers as they are ({shown!r} comes out as {found!r})"
        )
    return whole


def refused(tokenizer: ChatTokenizer, what: str, remedy: str = "") -> ModelError:
    """An error that says why a template cannot be trained on, where it is, and what to do."""
    return ModelError(
        f"the chat template in {tokenizer.folder} {what}: set student.tokenizer to a folder with another "
        f"template, or correct it there{', ' if remedy else ''}{remedy}"
    )


def _parts(tokenizer: ChatTokenizer, messages: Sequence[Message]) -> tuple[str, str, str]:
    marked = tokenizer.render_marked([*messages, Message("assistant", _ANSWER_SLOT)])
    head, slot, rest = marked.partition(TEXT_SLOT)
    if not slot or TEXT_SLOT in rest:
        raise PromptError(
            f"the chat template in {tokenizer.folder} does not show the text exactly once; see student.model"
        )
    tail, slot, after = rest.partition(_ANSWER_SLOT)
    if not slot or _ANSWER_SLOT in after:
        raise refused(tokenizer, "does not show the answer exactly once, after the text")
    return head, tail, after


def _trims(tokenizer: ChatTokenizer, messages: Sequence[Message], frame: ChatFrame) -> tuple[bool, bool]:
    """Whether the template takes whitespace from the beginning and from the end of a text."""
    possible = {(start, end) for start in (True, False) for end in (True, False)}
    for edge in _EDGES:
        text = f"{edge}{TEXT_SLOT}{edge}"
        padded = [replace(m, content=m.content.replace(TEXT_SLOT, text)) for m in messages]
        head, tail, _ = _parts(tokenizer, padded)
        possible = {
            (start, end)
            for start, end in possible
            if head == frame.head + ("" if start else edge) and tail == ("" if end else edge) + frame.tail
        }
    if not possible:
        raise refused(tokenizer, "changes some of the whitespace around a text")
    return possible.pop()


def _compare_with_generation(tokenizer: ChatTokenizer, messages: Sequence[Message], frame: ChatFrame) -> None:
    prompt = tokenizer.control.plain(f"{frame.head}{TEXT_SLOT}{frame.tail}")
    asked = tokenizer.render(messages)
    if asked.rstrip() != prompt.rstrip():
        log.info(
            "the chat template in %s ends a prompt with %r, but writes %r before an answer: the student is "
            "trained and asked with the latter",
            tokenizer.folder,
            asked.rpartition(TEXT_SLOT)[2][-60:],
            prompt.rpartition(TEXT_SLOT)[2][-60:],
        )
