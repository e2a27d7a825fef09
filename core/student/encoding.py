"""From a text, a label and a reason to the tokens and weights the student learns.

A prompt is what the chat template writes before and after a text, and the text between; only the text is
ever cut. Prompt and answer have the tokens of the conversation that the template renders as a whole, but
for control tokens in texts and reasons, which are plain text. Where the answer and its label are follows
from the characters that each token comes from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Literal

from core.config.base import Section
from core.config.student import StudentConfig, TokenWeights
from core.engines.base import Datum
from core.errors import PromptError
from core.labels import BINARY, LabelSet
from core.prompts import Message, Prompts, TargetWording
from core.student.chat_frame import read_frame, refused
from core.student.round_trip import check_round_trip
from core.student.tokenizer import TEMPLATE_DATE, ChatTokenizer, TextTokens
from core.student.wording import Part, Said, read_answer, write_answer

Target = Literal["label_only", "label_first", "reason_first"]
DEFAULT_LABEL_SHARE = 0.5
MIN_TEXT = 8
"""Tokens that must be left for a text: no character takes more."""
_TEXT, _REASON = "x", "It says so."
"""What stands for a text and a reason where only the tokens around them are of interest."""


class EncodeSettings(Section):
    """The part of the student's config that decides tokens and weights."""

    target: Target
    rulebook: bool
    max_length: int
    chat_template_args: dict[str, Any]
    template_date: str = TEMPLATE_DATE
    label_share: float | None
    token_weights: TokenWeights | None

    @classmethod
    def of(cls, config: StudentConfig) -> EncodeSettings:
        """The part of a student section that these settings need."""
        return cls(**{name: getattr(config, name) for name in cls.model_fields})


@dataclass(frozen=True, slots=True)
class Frame:
    """The tokens around the text, and the token that ends the assistant's turn."""

    head: tuple[int, ...]
    tail: tuple[int, ...]
    end_of_turn: int

    def __len__(self) -> int:
        return len(self.head) + len(self.tail)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered prompt; `cut` counts the tokens of the text that did not fit."""

    tokens: tuple[int, ...]
    cut: int


@dataclass(frozen=True, slots=True)
class Completion:
    """What the student is to say; `in_label[i]` marks the tokens of the label block."""

    tokens: tuple[int, ...]
    in_label: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """A datum with what is worth counting about it."""

    example_id: str
    label: int
    datum: Datum
    prompt_tokens: int
    cut: int

    @property
    def hash(self) -> str:
        """sha256 of tokens and weights."""
        d = self.datum
        return hashlib.sha256(repr((d.tokens, d.targets, d.weights)).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class _Placed:
    """A completion, the character where its label block begins, and those where its tokens end."""

    completion: Completion
    label: int
    ends: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Opening:
    """The marked beginning of an answer and its tokens: each prompt is tokenized with it, which shows where
    the answer's tokens begin."""

    text: str
    ids: tuple[int, ...]


class Encoder:
    """Encodes for one prompt (with or without rulebook, reasoning or label only) and one target.

    Raises PromptError or ModelError where the chat template cannot be trained on: where it changes texts or
    answers, or where a perfect answer would not be read back.
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
        self.tokenizer, self.labels = tokenizer, labels
        self.wording: TargetWording = prompts.target
        self.target: Target = "label_only" if label_only else config.target
        self.config = config
        self.max_length = config.max_length
        self._prompts, self._rulebook = prompts, rulebook if config.rulebook else None
        self._control = tokenizer.control
        messages = prompts.student_frame(self._rulebook, label_only=self.target == "label_only")
        self.chat = read_frame(tokenizer, messages)
        self._fixed = self._split_off(self.chat.head)
        self._opening = self._read_opening()
        self._before = self._read_before()
        self.frame = self._measured()
        self._check_labels()
        check_round_trip(self)

    @property
    def digest(self) -> str:
        """sha256 of the tokens of one prompt and its answers: what encoders that ask alike agree on."""
        answers = [self.completion(label, _REASON).tokens for label in self.labels]
        shown = (self.prompt_tokens(_TEXT), answers, self.stop_tokens)
        return hashlib.sha256(repr(shown).encode()).hexdigest()

    # Prompts

    def prompt_messages(self, text: str) -> tuple[Message, ...]:
        """The conversation before the answer, for a whole text."""
        return self._prompts.student_messages(text, self._rulebook, label_only=self.target == "label_only")

    def prompt(self, text: TextTokens, reserve: int) -> Prompt | None:
        """The prompt that leaves `reserve` tokens for an answer; None where no text would be left."""
        room = self.max_length - reserve
        blank = self._blank(text)
        budget = room - len(self.frame)
        while budget > 0 or not text.ids:
            kept = len(text.cut(blank + budget))
            if text.ids and kept <= blank:
                return None
            tokens = self.prompt_tokens(text.begin(kept))
            if len(tokens) <= room or not text.ids:
                return Prompt(tokens, len(text.ids) - kept)
            budget = min(budget, kept - blank) - (len(tokens) - room)
        return None

    def prompt_tokens(self, text: str) -> tuple[int, ...]:
        """The tokens with which the conversation about a text begins, up to the answer; nothing is cut."""
        marked = self._rest(self.chat.prompt(text))
        found = self._control.encode(marked + self._opening.text)
        n = found.until(len(marked))
        if found.ids[n:] != self._opening.ids:
            raise PromptError(
                f"the text that begins with {text[:40]!r} changes the tokens of the answer after it; end the "
                "student's prompt with another character (prompts.file), or use another tokenizer"
            )
        return (*self._fixed, *found.ids[:n])

    def prompt_with_room(self, text: TextTokens, reserve: int) -> Prompt:
        """As `prompt`, after `require_room` has held."""
        prompt = self.prompt(text, reserve)
        if prompt is None:
            raise PromptError(f"no character of a text fits into student.max_length {self.max_length}")
        return prompt

    def require_room(self, reserve: int) -> None:
        """Raise PromptError where the prompt does not fit even without its text."""
        needed = len(self.frame) + reserve + MIN_TEXT
        if needed > self.max_length:
            raise PromptError(
                f"the student's prompt takes {len(self.frame)} tokens without its text, and the answer "
                f"up to {reserve}; student.max_length is {self.max_length}: raise it to more than {needed}, "
                "shorten the template, or set student.rulebook: false"
            )

    def kept_share(self, text: TextTokens, cut: int) -> float:
        """Of the tokens of a text that fit in next to the label alone, the share that is left after `cut`."""
        shown = self.prompt(text, self.label_tokens)
        fits = len(text.ids) - (shown.cut if shown is not None else 0)
        return (len(text.ids) - cut) / fits if fits else 1.0

    def _blank(self, text: TextTokens) -> int:
        """Tokens at the beginning of a text that the template takes away."""
        if not self.chat.trims_start:
            return 0
        first = len(text.text) - len(text.text.lstrip())
        return sum(end <= first for _, end in text.offsets)

    # What does not depend on the text

    def _split_off(self, head: str) -> tuple[int, ...]:
        """Tokens of the head up to its last control token, if nothing that follows can change them."""
        encode, at = self._control.encode, self._control.last_mark(head)
        first = encode(head[:at]).ids
        separable = (*first, *encode(head[at:]).ids) == encode(head).ids
        self._fixed_length = at if separable else 0
        return first if separable else ()

    def _rest(self, prompt: str) -> str:
        return prompt[self._fixed_length :]

    def _read_opening(self) -> _Opening:
        text = self._marked(next(iter(self._parts(0, ""))))
        marked = self._rest(self.chat.prompt(_TEXT))
        found = self._control.encode(marked + text)
        n = found.until(len(marked))
        joined = (marked + text)[found.offsets[n][0] : len(marked)]
        if joined.strip():
            raise refused(
                self.tokenizer,
                f"ends the prompt with {joined!r}, which the tokenizer joins with the answer",
                "or begin target.label_open and target.reason_open in the prompts file with a line break",
            )
        return _Opening(text, found.ids[n:])

    def _read_before(self) -> str:
        """As much of a prompt's end as decides the tokens of the answer after it."""
        marked = self._rest(self.chat.prompt(_TEXT))
        at = self._control.last_mark(marked)
        found = self._control.encode(marked[at:] + self._opening.text)
        alike = found.ids[found.until(len(marked) - at) :] == self._opening.ids
        return marked[at:] if alike else marked

    def _measured(self) -> Frame:
        """The tokens around a text of one character."""
        marked = self._rest(self.chat.prompt(_TEXT))
        start = len(self.chat.head) - self._fixed_length
        found = self._control.encode(marked + self._opening.text)
        n, before = found.until(len(marked)), found.until(start)
        after = next((i for i, (begin, _) in enumerate(found.offsets) if begin > start), n)
        return Frame((*self._fixed, *found.ids[:before]), found.ids[min(after, n) : n], self.chat.end_of_turn)

    # Completions

    def answer(self, label: int, reasoning: str) -> str:
        """The target's text, without the end of turn."""
        return "".join(part.text for part in self._parts(label, reasoning))

    def completion(self, label: int, reasoning: str) -> Completion:
        """The target's tokens, the end of turn last. The end belongs to the block before it."""
        return self._complete(self._parts(label, reasoning)).completion

    def reason_prefix(self, reasoning: str) -> tuple[int, ...]:
        """reason_first: the tokens between the prompt and the label block, for a given reasoning."""
        whole = self.completion(0, reasoning)
        return whole.tokens[: whole.in_label.index(True)]

    def read(self, tokens: Sequence[int]) -> tuple[str, Said]:
        """The text of a generated answer, and what it says; `tokens` come without the stop token."""
        raw = self.tokenizer.decode(tokens)
        return raw, read_answer(raw, self.wording, self.target, self.labels)

    @property
    def stop_tokens(self) -> tuple[int, ...]:
        """Tokens that end a generation: the trained end of turn, and the tokenizer's end of text."""
        return self.tokenizer.stop_tokens(self.frame.end_of_turn)

    def _parts(self, label: int, reasoning: str) -> Iterator[Part]:
        return self._worded(self.labels.codes[label], reasoning)

    def _worded(self, code: str, reasoning: str) -> Iterator[Part]:
        return write_answer(code, reasoning, self.wording, self.target)

    def _marked(self, part: Part) -> str:
        """Control tokens are understood in the wording, never in what comes from outside."""
        return part.text if part.kind == "reason" else self._control.mark(part.text)

    def _complete(self, parts: Iterable[Part]) -> _Placed:
        """The answer's tokens, and where its label block is."""
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
        return _Placed(Completion(ids, tuple(marks)), label[0], tuple(stop for _, stop in spans))

    # The label's place

    def choice(self, surface: str) -> tuple[int, ...] | None:
        """The tokens from the beginning of the label block through one surface form of a label; None where
        the form does not end with a token."""
        placed = self._complete(self._worded(surface, _REASON))
        tokens, in_label = placed.completion.tokens, placed.completion.in_label
        at = placed.label + len(self._control.mark(self.wording.label_open)) + len(surface)
        ends = [i for i, stop in enumerate(placed.ends) if stop == at]
        return tokens[in_label.index(True) : ends[-1] + 1] if ends else None

    def choices(self) -> Mapping[int, tuple[tuple[int, ...], ...]]:
        """For each label the token sequences that say it: the label, or a space or line break and it.

        Only forms that share everything but their last token are listed, so that all are read from
        one forward pass; a form that takes more tokens counts as mass outside both labels.
        """
        found = {}
        for label in self.labels:
            code = self.labels.codes[label]
            plain, *others = [self.choice(s) for s in (code, f" {code}", f"\n{code}")]
            assert plain is not None, "an encoder without it is not opened"
            forms = dict.fromkeys(form for form in others if form is not None and _sister(form, plain))
            found[label] = (plain, *forms)
        return found

    @property
    def label_tokens(self) -> int:
        """Tokens of the longest label block with its end of turn: what every answer needs."""
        target = "reason_first" if self.target == "reason_first" else "label_only"
        answers = [write_answer(code, "", self.wording, target) for code in self.labels.codes]
        marks = [self._complete(parts).completion.in_label for parts in answers]
        return max(len(mark) - mark.index(True) for mark in marks)

    def _check_labels(self) -> None:
        tokens = [self.choice(code) for code in self.labels.codes]
        known = [each for each in tokens if each is not None]
        if len(known) < len(tokens):
            raise PromptError(
                f"the tokenizer in {self.tokenizer.folder} joins a label with {self.wording.label_close!r}; "
                "choose another target.label_close in the prompts file"
            )
        if any(one[: len(other)] == other for one, other in permutations(known, 2)):
            raise PromptError("one label's tokens begin the other's, so they cannot be told apart")

    # Data

    def example(self, example_id: str, text: TextTokens, label: int, reasoning: str) -> EncodedExample | None:
        """One training example; None where the answer leaves no room for any text.

        Raises PromptError where the conversation has other tokens as a whole.
        """
        completion = self.completion(label, reasoning)
        prompt = self.prompt(text, len(completion.tokens))
        if prompt is None:
            return None
        answer = self._complete(self._parts(label, reasoning)).completion.tokens
        shown = text.begin(len(text.ids) - prompt.cut)
        if (*prompt.tokens, *answer) != self.conversation(shown, label, reasoning):
            raise PromptError(
                f"sample {example_id}: the conversation is tokenized otherwise as a whole than as prompt and "
                "answer; change target in the prompts file, or use another tokenizer"
            )
        tokens = (*prompt.tokens, *completion.tokens)
        weights = (*(0.0 for _ in prompt.tokens), *self._weights(completion))
        datum = Datum(tokens[:-1], tokens[1:], weights[1:])
        return EncodedExample(example_id, label, datum, len(prompt.tokens), prompt.cut)

    def conversation(self, text: str, label: int, reasoning: str) -> tuple[int, ...]:
        """The tokens of prompt and answer as a whole, the end of turn last; nothing is cut."""
        answer = "".join(self._marked(part) for part in self._parts(label, reasoning))
        marked = self._rest(f"{self.chat.prompt(text)}{answer}{self.chat.trail}{self.chat.end_mark}")
        end = () if self.chat.end_mark else (self.chat.end_of_turn,)
        return (*self._fixed, *self._control.encode(marked).ids, *end)

    def _weights(self, completion: Completion) -> Sequence[float]:
        """Weights that add up to 1: the label block's share, or plain token weights scaled."""
        plain = self.config.token_weights
        if plain is not None:
            raw = [plain.label if in_label else plain.reasoning for in_label in completion.in_label]
            return [w / sum(raw) for w in raw]
        n_label = sum(completion.in_label)
        n_rest = len(completion.tokens) - n_label
        share = self.config.label_share if self.config.label_share is not None else DEFAULT_LABEL_SHARE
        share = share if n_rest else 1.0
        return [share / n_label if in_label else (1 - share) / n_rest for in_label in completion.in_label]


def _sister(form: tuple[int, ...], plain: tuple[int, ...]) -> bool:
    return form != plain and form[:-1] == plain[:-1]
