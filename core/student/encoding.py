"""From a text, a label and a reason to the tokens and weights the student learns.

A prompt is a fixed head, the text, and a fixed tail, tokenised apart: so the head is the same
for every row, only the text is ever cut, and a special token inside a text is plain text. The
completion's pieces are tokenised apart too, so that the label's place is known exactly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from core.config.base import Section
from core.config.student import StudentConfig, TokenWeights
from core.errors import PromptError
from core.prompts import TEXT_SLOT, Message, Prompts, TargetWording
from core.student.engine import Datum
from core.student.tokenizer import ChatTokenizer, TextTokens

Target = Literal["label_only", "label_first", "reason_first"]
DEFAULT_LABEL_SHARE = 0.5
MIN_TEXT = 8
"""Tokens that must be left for a text: no character takes more."""


class EncodeSlice(Section):
    """The part of the student's config that decides tokens and weights."""

    target: Target
    rulebook: bool
    max_length: int
    chat_template_args: dict[str, Any]
    label_share: float | None
    token_weights: TokenWeights | None

    @classmethod
    def of(cls, config: StudentConfig) -> EncodeSlice:
        """The slice of a whole student section."""
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


class Encoder:
    """Encodes for one prompt (with or without rulebook, reasoning or label only) and one target."""

    def __init__(
        self,
        tokenizer: ChatTokenizer,
        prompts: Prompts,
        rulebook: str | None,
        config: EncodeSlice,
        *,
        label_only: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.wording: TargetWording = prompts.target
        self.target: Target = "label_only" if label_only else config.target
        self.config = config
        self.max_length = config.max_length
        self._prompts, self._rulebook = prompts, rulebook if config.rulebook else None
        messages = prompts.student_frame(self._rulebook, label_only=self.target == "label_only")
        head, slot, tail = tokenizer.render(messages).partition(TEXT_SLOT)
        if not slot or TEXT_SLOT in tail:
            raise PromptError("the chat template does not show the text exactly once; see student.model")
        self.frame = Frame(tokenizer.encode(head), tokenizer.encode(tail), tokenizer.end_of_turn(messages))
        self._check_labels()

    def _check_labels(self) -> None:
        zero, one = (self.tokenizer.encode(str(label)) for label in (0, 1))
        if zero[: len(one)] == one or one[: len(zero)] == zero:
            raise PromptError("one label's tokens begin the other's, so they cannot be told apart")

    # Prompts

    def prompt_messages(self, text: str) -> tuple[Message, ...]:
        """The conversation before the answer, for a whole text."""
        return self._prompts.student_messages(text, self._rulebook, label_only=self.target == "label_only")

    def prompt(self, text: TextTokens, reserve: int) -> Prompt | None:
        """The prompt that leaves `reserve` tokens for an answer; None where no text would be left."""
        budget = self.max_length - len(self.frame) - reserve
        ids = text.cut(budget) if budget > 0 else ()
        if not ids and text.ids:
            return None
        return Prompt((*self.frame.head, *ids, *self.frame.tail), len(text.ids) - len(ids))

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

    # Completions

    def completion(self, label: int, reasoning: str) -> Completion:
        """The target's tokens, the end of turn last. The end belongs to the block before it."""
        pieces = [self._label_block(label)]
        if self.target == "label_first":
            pieces.append(self._plain(self._reason_text(reasoning, before=self.wording.separator)))
        elif self.target == "reason_first":
            pieces.insert(0, self._plain(self._reason_text(reasoning, after=self.wording.separator)))
        tokens = [t for ids, _ in pieces for t in ids]
        marks = [m for ids, mark in pieces for m in [mark] * len(ids)]
        return Completion((*tokens, self.frame.end_of_turn), (*marks, marks[-1]))

    def reason_prefix(self, reasoning: str) -> tuple[int, ...]:
        """reason_first: the tokens between the prompt and the label block, for a given reasoning."""
        return self._plain(self._reason_text(reasoning, after=self.wording.separator))[0]

    def _reason_text(self, reasoning: str, *, before: str = "", after: str = "") -> str:
        return f"{before}{self.wording.reason_open}{reasoning.strip()}{self.wording.reason_close}{after}"

    def _plain(self, text: str) -> tuple[tuple[int, ...], bool]:
        # Reasonings come from outside like texts do: no special token is understood in them.
        return self.tokenizer.encode_texts([text])[0].ids, False

    def _label_block(self, label: int) -> tuple[tuple[int, ...], bool]:
        return (*self.choice(str(label)), *self.tokenizer.encode(self.wording.label_close)), True

    # The label's place

    def choice(self, surface: str) -> tuple[int, ...]:
        """The tokens from the beginning of the label block through one surface form of a label."""
        return (*self.tokenizer.encode(self.wording.label_open), *self.tokenizer.encode(surface))

    def choices(self) -> Mapping[int, tuple[tuple[int, ...], ...]]:
        """For each label the token sequences that say it: the label, or a space or line break and it.

        Only forms that share everything but their last token are listed, so that all are read from
        one forward pass; a form that takes more tokens counts as mass outside both labels.
        """
        plain = {label: self.choice(str(label)) for label in (0, 1)}
        forms = {label: [self.choice(s) for s in (f"{label}", f" {label}", f"\n{label}")] for label in (0, 1)}
        return {
            label: (plain[label], *(f for f in dict.fromkeys(forms[label]) if _sister(f, plain[label])))
            for label in (0, 1)
        }

    @property
    def label_tokens(self) -> int:
        """Tokens of the longest label block with its end of turn: what every answer needs."""
        return max(len(self._label_block(label)[0]) for label in (0, 1)) + 1

    # Data

    def example(self, example_id: str, text: TextTokens, label: int, reasoning: str) -> EncodedExample | None:
        """One training example; None where the answer leaves no room for any text."""
        completion = self.completion(label, reasoning)
        prompt = self.prompt(text, len(completion.tokens))
        if prompt is None:
            return None
        tokens = (*prompt.tokens, *completion.tokens)
        weights = (*(0.0 for _ in prompt.tokens), *self._weights(completion))
        datum = Datum(tokens[:-1], tokens[1:], weights[1:])
        return EncodedExample(example_id, label, datum, len(prompt.tokens), prompt.cut)

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
