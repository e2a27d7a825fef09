"""The student's tokenizer: text to tokens and back, and the chat template around them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import jsonio
from core.errors import ModelError
from core.prompts import Message

_SLOT = "\u241fslot\u241f"


# What a folder may hold besides weights that decides tokens or the chat template.
_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "*.jinja",
    "*.model",
    "config.json",
)


def tokenizer_digest(folder: Path) -> str:
    """sha256 over the tokenizer's files in a folder, weights beside them left out.

    Raises ModelError where there is none.
    """
    files = tokenizer_files(folder)
    if not files:
        raise ModelError(f"student.tokenizer: {folder} holds no tokenizer's files")
    return jsonio.digest({path.name: jsonio.file_digest(path) for path in files})


def tokenizer_files(folder: Path) -> list[Path]:
    """The files in a folder that decide tokens or the chat template, by name."""
    return sorted({path for pattern in _FILES for path in folder.glob(pattern) if path.is_file()})


@dataclass(frozen=True, slots=True)
class ChatTokenizer:
    """A tokenizer with a chat template. `template_args` are passed to the template as they are."""

    inner: Any
    template_args: Mapping[str, Any]

    @classmethod
    def load(cls, folder: Path, template_args: Mapping[str, Any]) -> ChatTokenizer:
        """Load from a local folder. Raises ModelError where there is none or it has no template."""
        from transformers import AutoTokenizer

        try:
            inner = AutoTokenizer.from_pretrained(str(folder), use_fast=True)  # nosec B615  # a local folder
        except (OSError, ValueError) as e:
            reason = str(e).splitlines()[0]
            raise ModelError(
                f"no tokenizer can be loaded from {folder}: {reason}; set student.tokenizer"
            ) from e
        if not inner.chat_template:
            raise ModelError(
                f"the tokenizer in {folder} has no chat template; choose an instruction-tuned model, "
                "or set student.tokenizer to one that has"
            )
        if not inner.is_fast:
            raise ModelError(f"the tokenizer in {folder} has no fast version, which cutting texts needs")
        return cls(inner, template_args)

    @property
    def template_digest(self) -> str:
        """sha256 of the chat template and its extra arguments."""
        args = sorted((k, str(v)) for k, v in self.template_args.items())
        return hashlib.sha256(f"{self.inner.chat_template}\0{args}".encode()).hexdigest()

    def render(self, messages: Sequence[Message]) -> str:
        """The chat template's text up to where the model begins to answer."""
        return self._apply(messages, generate=True)

    def end_of_turn(self, messages: Sequence[Message]) -> int:
        """The token with which the template ends the assistant's turn, else the end of text."""
        whole = self._apply([*messages, Message("assistant", _SLOT)], generate=False)
        after = self.encode(whole.rpartition(_SLOT)[2])
        token = after[0] if after else self.inner.eos_token_id
        if token is None:
            raise ModelError("neither the chat template nor the tokenizer names an end of turn")
        return int(token)

    def stop_tokens(self, end_of_turn: int) -> tuple[int, ...]:
        """Tokens that end a generation."""
        eos = self.inner.eos_token_id
        return tuple(dict.fromkeys(t for t in (end_of_turn, eos) if t is not None))

    def encode(self, text: str) -> tuple[int, ...]:
        """Tokens of a piece of template, special tokens understood, none added."""
        return tuple(self.inner(text, add_special_tokens=False)["input_ids"])

    def encode_texts(self, texts: Sequence[str]) -> list[TextTokens]:
        """Tokens of users' texts: what looks like a special token in them is plain text."""
        if not texts:
            return []
        batch = self.inner(
            list(texts),
            add_special_tokens=False,
            split_special_tokens=True,
            return_offsets_mapping=True,
            return_attention_mask=False,
        )
        return [
            TextTokens(tuple(ids), tuple(offsets))
            for ids, offsets in zip(batch["input_ids"], batch["offset_mapping"], strict=True)
        ]

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of generated tokens, special tokens left out."""
        text: str = self.inner.decode(
            list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def _apply(self, messages: Sequence[Message], *, generate: bool) -> str:
        turns = [{"role": m.role, "content": m.content} for m in messages]
        try:
            text: str = self.inner.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=generate, **self.template_args
            )
        except Exception as e:  # templates raise what they like
            raise ModelError(
                f"the chat template refuses the prompt: {e}; see student.chat_template_args"
            ) from e
        return text


@dataclass(frozen=True, slots=True)
class TextTokens:
    """A text's tokens and the span of characters each stands for."""

    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]

    def cut(self, budget: int) -> tuple[int, ...]:
        """The longest prefix of at most `budget` tokens that does not end inside a character."""
        if len(self.ids) <= budget:
            return self.ids
        k = max(budget, 0)
        while k > 0 and self.offsets[k][0] < self.offsets[k - 1][1]:
            k -= 1
        return self.ids[:k]
