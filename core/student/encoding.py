"""Encode a text, a label and a reasoning as the tokens and weights that the student learns.

Only the text of a prompt is ever cut. Prompt and answer have the tokens of the conversation that the template
renders as a whole, except that control tokens in texts and reasonings are plain text. The positions of the
answer and its label follow from the characters that each token covers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from core.config import ConfigSection, StudentConfig, TokenWeights
from core.engines import Datum
from core.errors import PromptError
from core.prompts import Message, Prompts
from core.records import BINARY, LabelSet
from core.student.conversation import (
    AnswerPart,
    ParsedCompletion,
    Target,
    check_round_trip,
    parse_completion,
    read_frame,
    refused,
    write_answer,
)
from core.student.tokenizer import TEMPLATE_DATE, ChatTokenizer, TextTokens

_DEFAULT_LABEL_SHARE = 0.5
MIN_TEXT = 8
"""Tokens that must be left for a text: no character takes more."""
_TEXT, _REASON = "x", "It says so."
"""A text and a reasoning for when only the tokens around them matter."""


class EncodeSettings(ConfigSection):
    """The part of a student section that decides tokens and weights."""

    target: Target
    rulebook: bool
    max_length: int
    chat_template_args: dict[str, Any]
    template_date: str = TEMPLATE_DATE
    label_share: float | None
    token_weights: TokenWeights | None

    @classmethod
    def of(cls, config: StudentConfig) -> EncodeSettings:
        return cls(**{name: getattr(config, name) for name in cls.model_fields})


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered prompt; `cut` counts the tokens of the text that did not fit."""

    tokens: tuple[int, ...]
    cut: int


@dataclass(frozen=True, slots=True)
class EncodedAnswer:
    """An answer's tokens, the end of turn last. `in_label` marks those of the label block, and `ends` has
    the last character that each covers, counted from the beginning of that block."""

    tokens: tuple[int, ...]
    in_label: tuple[bool, ...]
    ends: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """A datum with the counts that the encode stage reports."""

    example_id: str
    label: int
    datum: Datum
    cut: int

    @property
    def hash(self) -> str:
        """sha256 of tokens and weights."""
        d = self.datum
        return hashlib.sha256(repr((d.tokens, d.targets, d.weights)).encode()).hexdigest()


class Encoder:
    """Encodes for one prompt (with or without rulebook, reasoning or label only) and one target.

    Raises PromptError or ModelError if the chat template changes texts or answers, so that it cannot be
    trained on.
    """

    def __init__(
        self,
        tokenizer: ChatTokenizer,
        prompts: Prompts,
        rulebook: str | None,
        config: EncodeSettings,
        *,
        label_only: bool = False,
        labels: LabelSet = BINARY,
    ) -> None:
        self.tokenizer, self.labels, self.config = tokenizer, labels, config
        self.wording = prompts.target
        self.target: Target = "label_only" if label_only else config.target
        self.max_length = config.max_length
        self._prompts, self._rulebook = prompts, rulebook if config.rulebook else None
        self._control = tokenizer.control
        messages = prompts.student_frame(self._rulebook, label_only=self.target == "label_only")
        self.chat = read_frame(tokenizer, messages)
        self.frame = self._read_frame()
        surfaces = [self.choice(code) for code in self.labels.codes]
        known = [tokens for tokens in surfaces if tokens is not None]
        if len(known) < len(surfaces):
            raise PromptError(
                f"the tokenizer in {tokenizer.folder} joins a label with {self.wording.label_close!r}; "
                "choose another target.label_close in the prompts file"
            )
        if any(one[: len(other)] == other for one, other in permutations(known, 2)):
            raise PromptError("one label's tokens begin the other's, so they cannot be distinguished")
        check_round_trip(self)

    @property
    def digest(self) -> str:
        """sha256 of the tokens of one prompt and its answers; equal for encoders with equal prompts."""
        answers = [self.completion(label, _REASON).tokens for label in self.labels]
        shown = (self.prompt_tokens(_TEXT), answers, self.stop_tokens)
        return hashlib.sha256(repr(shown).encode()).hexdigest()

    def prompt_messages(self, text: str) -> tuple[Message, ...]:
        """Return the conversation before the answer, for a whole text."""
        return self._prompts.student_messages(text, self._rulebook, label_only=self.target == "label_only")

    def prompt(self, text: TextTokens, reserve: int) -> Prompt | None:
        """Return the prompt that leaves `reserve` tokens; None if no text would be left."""
        room = self.max_length - reserve
        stripped = 0  # tokens at the beginning of the text that the template strips
        if self.chat.trims_start:
            first = len(text.text) - len(text.text.lstrip())
            stripped = sum(end <= first for _, end in text.offsets)
        budget = room - len(self.frame)
        while budget > 0 or not text.ids:
            kept = len(text.cut(stripped + budget))
            if text.ids and kept <= stripped:
                return None
            tokens = self.prompt_tokens(text.begin(kept))
            if len(tokens) <= room or not text.ids:
                return Prompt(tokens, len(text.ids) - kept)
            budget = min(budget, kept - stripped) - (len(tokens) - room)
        return None

    def prompt_tokens(self, text: str) -> tuple[int, ...]:
        """Return the tokens up to the answer, without cutting the text."""
        marked = self.chat.prompt(text)[self._fixed_length :]
        found = self._control.encode(marked + self._opening)
        n = found.until(len(marked))
        if found.ids[n:] != self._opening_ids:
            raise PromptError(
                f"the text that begins with {text[:40]!r} changes the tokens of the answer after it; end the "
                "student's prompt with another character (prompts.file), or use another tokenizer"
            )
        return (*self._fixed, *found.ids[:n])

    def prompt_with_room(self, text: TextTokens, reserve: int) -> Prompt:
        """Return `prompt`. Raises PromptError if it is None, which `require_room` rules out."""
        prompt = self.prompt(text, reserve)
        if prompt is None:
            raise PromptError(f"no character of a text fits into student.max_length {self.max_length}")
        return prompt

    def prompts(self, texts: Sequence[str], reserve: int) -> list[Prompt]:
        """Return the prompts of texts, with room for `reserve` tokens. Raises as `require_room` does."""
        self.require_room(reserve)
        return [self.prompt_with_room(text, reserve) for text in self.tokenizer.encode_texts(list(texts))]

    def require_room(self, reserve: int) -> None:
        """Raise PromptError if the prompt does not fit even without its text."""
        needed = len(self.frame) + reserve + MIN_TEXT
        if needed > self.max_length:
            raise PromptError(
                f"the student's prompt takes {len(self.frame)} tokens without its text, and the answer "
                f"up to {reserve}; student.max_length is {self.max_length}: raise it to more than {needed}, "
                "shorten the template, or set student.rulebook: false"
            )

    def kept_share(self, text: TextTokens, cut: int) -> float:
        """Return the share that is left after `cut` of the text's tokens that fit next to the label alone."""
        shown = self.prompt(text, self.label_tokens)
        fits = len(text.ids) - (shown.cut if shown is not None else 0)
        return (len(text.ids) - cut) / fits if fits else 1.0

    def _read_frame(self) -> tuple[int, ...]:
        """Tokenize the head and the beginning of an answer; return the tokens around the text.

        Each prompt is tokenized with that beginning, which shows where the answer's tokens begin.
        """
        encode, head, at = self._control.encode, self.chat.head, self._control.last_mark(self.chat.head)
        first = encode(head[:at]).ids
        # The head is constant up to its last control token if nothing that follows can change its tokens.
        constant = (*first, *encode(head[at:]).ids) == encode(head).ids
        self._fixed, self._fixed_length = (first, at) if constant else ((), 0)
        self._opening = self._marked(self._parts(0, "")[0])
        marked = self.chat.prompt(_TEXT)[self._fixed_length :]
        found = encode(marked + self._opening)
        n, start = found.until(len(marked)), len(head) - self._fixed_length
        joined = (marked + self._opening)[found.offsets[n][0] : len(marked)]
        if joined.strip():
            raise refused(
                self.tokenizer,
                f"ends the prompt with {joined!r}, which the tokenizer joins with the answer",
                "or begin target.label_open and target.reason_open in the prompts file with a line break",
            )
        self._opening_ids = found.ids[n:]
        # The end of the prompt that decides the answer's tokens: from its last control token, if that does.
        at = self._control.last_mark(marked)
        end = encode(marked[at:] + self._opening)
        alike = end.ids[end.until(len(marked) - at) :] == self._opening_ids
        self._before = marked[at:] if alike else marked
        before = found.until(start)
        after = next((i for i, (begin, _) in enumerate(found.offsets) if begin > start), n)
        return (*self._fixed, *found.ids[:before], *found.ids[min(after, n) : n])

    def answer(self, label: int, reasoning: str) -> str:
        return "".join(part.text for part in self._parts(label, reasoning))

    def completion(self, label: int, reasoning: str) -> EncodedAnswer:
        return self._encode(self._parts(label, reasoning))

    def reason_prefix(self, reasoning: str) -> tuple[int, ...]:
        """Return the tokens between the prompt and the label block of reason_first, for a reasoning."""
        whole = self.completion(0, reasoning)
        return whole.tokens[: whole.in_label.index(True)]

    def read(self, tokens: Sequence[int]) -> tuple[str, ParsedCompletion]:
        """Decode and parse a generated answer, given without its stop token."""
        raw = self.tokenizer.decode(tokens)
        return raw, parse_completion(raw, self.wording, self.target, self.labels)

    @property
    def stop_tokens(self) -> tuple[int, ...]:
        """Tokens that end a generation: the trained end of turn, and the tokenizer's end of text."""
        tokens = (self.chat.end_of_turn, self.tokenizer.inner.eos_token_id)
        return tuple(dict.fromkeys(token for token in tokens if token is not None))

    def _parts(self, label: int, reasoning: str) -> list[AnswerPart]:
        return write_answer(self.labels.codes[label], reasoning, self.wording, self.target)

    def _marked(self, part: AnswerPart) -> str:
        """Return a part's text with its control tokens marked, unless it is a reasoning."""
        return part.text if part.kind == "reason" else self._control.mark(part.text)

    def _encode(self, parts: Sequence[AnswerPart]) -> EncodedAnswer:
        text, label = self._before, (0, 0)
        for part in parts:
            marked = self._marked(part)
            label = (len(text), len(text) + len(marked)) if part.kind == "label" else label
            text += marked
        end = len(text)
        found = self._control.encode(f"{text}{self.chat.trail}{self.chat.end_mark}")
        n = found.until(len(self._before))
        ids, spans = found.ids[n:], found.offsets[n:]
        if not self.chat.end_mark:
            ids, spans = (*ids, self.chat.end_of_turn), (*spans, (end, end))
        inside = [i for i, (begin, stop) in enumerate(spans) if begin < label[1] and stop > label[0]]
        leads, ends = self.target != "reason_first", label[1] == end
        marks = (leads if i < inside[0] else ends or i <= inside[-1] for i in range(len(ids)))
        return EncodedAnswer(ids, tuple(marks), tuple(stop - label[0] for _, stop in spans))

    def choice(self, surface: str) -> tuple[int, ...] | None:
        """Return the tokens from the beginning of the label block through one surface form of a label; None
        if the form does not end with a token."""
        found = self._encode(write_answer(surface, _REASON, self.wording, self.target))
        at = len(self._control.mark(self.wording.label_open)) + len(surface)
        ends = [i for i, stop in enumerate(found.ends) if stop == at]
        return found.tokens[found.in_label.index(True) : ends[-1] + 1] if ends else None

    def choices(self) -> Mapping[int, tuple[tuple[int, ...], ...]]:
        """Return for each label the token sequences of its code, alone or after a space or line break.

        Forms that differ in more than their last token are left out: one pass cannot score them.
        """
        found = {}
        for label in self.labels:
            code = self.labels.codes[label]
            plain, *others = [self.choice(s) for s in (code, f" {code}", f"\n{code}")]
            assert plain is not None, "the constructor refuses such a tokenizer"
            forms = [f for f in others if f is not None and f != plain and f[:-1] == plain[:-1]]
            found[label] = (plain, *dict.fromkeys(forms))
        return found

    @property
    def label_tokens(self) -> int:
        """Tokens of the longest label block with its end of turn, which every answer needs."""
        target = "reason_first" if self.target == "reason_first" else "label_only"
        answers = [write_answer(code, "", self.wording, target) for code in self.labels.codes]
        marks = [self._encode(parts).in_label for parts in answers]
        return max(len(mark) - mark.index(True) for mark in marks)

    def example(self, example_id: str, text: TextTokens, label: int, reasoning: str) -> EncodedExample | None:
        """Return one training example; None if the answer leaves no room for any text. Raises PromptError."""
        completion = self.completion(label, reasoning)
        prompt = self.prompt(text, len(completion.tokens))
        if prompt is None:
            return None
        tokens = (*prompt.tokens, *completion.tokens)
        shown = text.begin(len(text.ids) - prompt.cut)
        if tokens != self.conversation(shown, label, reasoning):
            raise PromptError(
                f"sample {example_id}: the conversation is tokenized otherwise as a whole than as prompt and "
                "answer; change target in the prompts file, or use another tokenizer"
            )
        weights = (*(0.0 for _ in prompt.tokens), *self._weights(completion))
        datum = Datum(tokens[:-1], tokens[1:], weights[1:])
        return EncodedExample(example_id, label, datum, prompt.cut)

    def conversation(self, text: str, label: int, reasoning: str) -> tuple[int, ...]:
        """Return the tokens of prompt and answer as a whole, without cutting the text."""
        answer = "".join(self._marked(part) for part in self._parts(label, reasoning))
        marked = f"{self.chat.prompt(text)}{answer}{self.chat.trail}{self.chat.end_mark}"
        end = () if self.chat.end_mark else (self.chat.end_of_turn,)
        return (*self._fixed, *self._control.encode(marked[self._fixed_length :]).ids, *end)

    def _weights(self, completion: EncodedAnswer) -> Sequence[float]:
        """Return weights that add up to 1."""
        plain = self.config.token_weights
        if plain is not None:
            raw = [plain.label if in_label else plain.reasoning for in_label in completion.in_label]
            return [w / sum(raw) for w in raw]
        n_label = sum(completion.in_label)
        n_rest = len(completion.tokens) - n_label
        share = self.config.label_share if self.config.label_share is not None else _DEFAULT_LABEL_SHARE
        share = share if n_rest else 1.0
        return [share / n_label if in_label else (1 - share) / n_rest for in_label in completion.in_label]
