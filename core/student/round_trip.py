"""Whether a perfect answer survives the chat template: tokens, end of turn, stopping and reading back."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

from core.student.chat_frame import check_rendering, refused

if TYPE_CHECKING:
    from core.student.encoding import Encoder

_TEXTS = (
    "See you at noon.",
    " spaces around ",
    "\nline\n\nbreaks\n",
    'He said: "it\'s <b>free</b> & {{ x }} {% y %}"',
    "naïve 日本 😀",
)
_REASONS = ("It says so [R1].", 'The words "call now"\ndecide.', "{close}{label}{open}")


def check_round_trip(encoder: Encoder) -> None:
    """Try sample texts, both labels and sample reasons, those too that contain the answer's own tags.

    Raises ModelError where the template as a whole has other tokens, or an answer is not read back.
    """
    words = encoder.wording
    tags = {
        "open": words.reason_open,
        "close": words.reason_close,
        "label": f"{words.label_open}{encoder.labels.codes[0]}{words.label_close}",
    }
    reasons = [reason.format(**tags) for reason in _REASONS]
    for reason in reasons:
        for label in encoder.labels:
            _check_answer(encoder, label, reason)
    known = [text for text in _TEXTS if encoder.tokenizer.control.hide(text) == text]
    for i, (text, reason) in enumerate(zip(known, cycle(reasons[:2]))):
        _check_tokens(encoder, text, i % len(encoder.labels), reason)


def _check_answer(encoder: Encoder, label: int, reason: str) -> None:
    prompt = encoder.prompt_tokens(_TEXTS[0])
    *tokens, last = encoder.conversation(_TEXTS[0], label, reason)[len(prompt) :]
    stops = encoder.stop_tokens
    early = next((i for i, token in enumerate(tokens) if token in stops), None)
    if early is not None or last not in stops:
        raise refused(
            encoder.tokenizer,
            f"ends the student's answer too early: {encoder.tokenizer.decode(tokens[:early])!r} is all that "
            f"is read of {encoder.answer(label, reason)!r}",
        )
    raw, said = encoder.read(tokens)
    if said.label != label or (said.reasoning is None) != (encoder.target == "label_only"):
        raise refused(
            encoder.tokenizer,
            f"does not give the student's answer back: {encoder.answer(label, reason)!r} is read as {raw!r}",
            "or choose other tags (target in the prompts file)",
        )


def _check_tokens(encoder: Encoder, text: str, label: int, reason: str) -> None:
    tokenizer, answer = encoder.tokenizer, encoder.answer(label, reason)
    messages = encoder.prompt_messages(text)
    whole = check_rendering(tokenizer, encoder.chat, messages, text, answer)
    if any(tokenizer.control.hide(m.content) != m.content for m in messages):
        return  # a rulebook that names control tokens: the tokenizer alone would understand them
    expected = tuple(tokenizer.inner(whole, add_special_tokens=False)["input_ids"])
    tokens, prompt = encoder.conversation(text, label, reason), encoder.prompt_tokens(text)
    shared = tokens if encoder.chat.end_mark else tokens[:-1]
    if expected[: len(shared)] != shared or tokens[: len(prompt)] != prompt:
        raise refused(
            tokenizer,
            f"is tokenized otherwise as a whole than in the parts that the student sees (text {text!r})",
        )
