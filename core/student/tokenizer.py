"""The student's tokenizer, and the chat template that comes with it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import jsonio
from core.errors import ModelError
from core.prompts import Message

if TYPE_CHECKING:
    from core.student.control_tokens import ControlTokens

TEMPLATE_DATE = "2024-07-26"
"""The date that the templates of Llama 3 contain if they are not given the current one."""

# Replaces the function that returns the current date to a template; templates cannot be given one.
_DATED = (
    "{%- macro strftime_now(format) -%}{%- set ns = namespace(text=format) -%}"
    "{%- for directive, value in understudy_date.items() -%}"
    "{%- set ns.text = ns.text.replace(directive, value) -%}{%- endfor -%}{{- ns.text -}}"
    "{%- endmacro %}\n"
)

# Files of a folder, other than weights, that decide tokens or the chat template.
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
    """sha256 over the tokenizer's files in a folder. Raises ModelError if there are none."""
    files = tokenizer_files(folder)
    if not files:
        raise ModelError(f"student.tokenizer: {folder} holds no tokenizer's files")
    return jsonio.digest({path.name: jsonio.file_digest(path) for path in files})


def tokenizer_files(folder: Path) -> list[Path]:
    """Return the files in a folder that decide tokens or the chat template, sorted by name."""
    return sorted({path for pattern in _FILES for path in folder.glob(pattern) if path.is_file()})


@dataclass(frozen=True, slots=True)
class TextTokens:
    """A text, its tokens, and the span of characters that each token covers."""

    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    text: str

    def until(self, place: int) -> int:
        """Return the number of tokens that end at or before a character's place."""
        return next((i for i, (_, end) in enumerate(self.offsets) if end > place), len(self.ids))

    def cut(self, budget: int) -> tuple[int, ...]:
        """Return the longest prefix of at most `budget` tokens that does not end inside a character."""
        if len(self.ids) <= budget:
            return self.ids
        k = max(budget, 0)
        while k > 0 and self.offsets[k][0] < self.offsets[k - 1][1]:
            k -= 1
        return self.ids[:k]

    def begin(self, tokens: int) -> str:
        """Return the part of the text that its first `tokens` tokens cover."""
        if tokens >= len(self.ids):
            return self.text
        return self.text[: self.offsets[tokens - 1][1]] if tokens else ""


@dataclass(frozen=True, slots=True)
class ChatTokenizer:
    """A tokenizer with a chat template.

    `template_args` are passed to the template. `date` (YYYY-MM-DD) is returned to a template that asks for
    the current date, so that a prompt does not depend on when it is rendered.
    """

    inner: Any
    template_args: Mapping[str, Any]
    control: ControlTokens
    date: str

    @classmethod
    def load(cls, folder: Path, template_args: Mapping[str, Any], day: str = TEMPLATE_DATE) -> ChatTokenizer:
        """Load from a local folder. Raises ModelError if it has no fast tokenizer with a chat template."""
        from transformers import AutoTokenizer

        from core.student.control_tokens import ControlTokens

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
        template = inner.get_chat_template()
        control = ControlTokens(inner.backend_tokenizer, template, inner.unk_token_id)
        return cls(inner, template_args, control, day)

    @property
    def folder(self) -> str:
        """The folder that the tokenizer was loaded from, for messages."""
        return str(self.inner.name_or_path)

    @property
    def template_digest(self) -> str:
        """sha256 of the chat template, its extra arguments and, if it asks for one, the date."""
        args = sorted((k, str(v)) for k, v in self.template_args.items())
        dated = f"\0{self.date}" if "strftime_now" in str(self.inner.chat_template) else ""
        return hashlib.sha256(f"{self.inner.chat_template}\0{args}{dated}".encode()).hexdigest()

    def render(self, messages: Sequence[Message], *, generate: bool = True) -> str:
        """Return the chat template's text; with `generate` up to where the model begins to answer."""
        turns = [{"role": m.role, "content": m.content} for m in messages]
        template, args = self.inner.get_chat_template(), {**self.template_args}
        if "strftime_now" in template:
            template = _DATED + template
            args["understudy_date"] = _date_directives(date.fromisoformat(self.date))
        try:
            text: str = self.inner.apply_chat_template(
                turns, chat_template=template, tokenize=False, add_generation_prompt=generate, **args
            )
        except Exception as e:  # a template raises any error that it likes
            system = any(m.role == "system" for m in messages)
            hint = ", or leave student_system out of the prompts file" if system else ""
            raise ModelError(
                f"the chat template in {self.folder} refuses the prompt: {e}; see "
                f"student.chat_template_args{hint}"
            ) from e
        return text

    def encode_texts(self, texts: Sequence[str]) -> list[TextTokens]:
        """Encode each of some user texts; the text of a control token in them is plain text."""
        return [self.control.encode(text) for text in texts]

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of generated tokens without special tokens."""
        options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        return str(self.inner.decode(list(tokens), **options))


def _date_directives(day: date) -> dict[str, str]:
    """Return the value of each strftime directive at the beginning of a day, longer directives first."""
    begin = datetime.combine(day, time())
    found = {f"%{c}": begin.strftime(f"%{c}") for c in "aAbBcdfHIjmMpSuUVwWxXyYzZGDFTeRhn%"}
    return {**{f"%-{c}": str(int(found[f"%{c}"])) for c in "dHIjmMSUWy"}, **found}
