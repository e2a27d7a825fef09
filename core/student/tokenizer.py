"""The student's tokenizer and its chat template, which alone can write control tokens."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import jsonio
from core.errors import ModelError
from core.prompts import Message

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer

TEMPLATE_DATE = "2024-07-26"
"""The date that the templates of Llama 3 contain if they are not given the current one."""

# Replaces the function that returns the current date to a template; templates cannot be given one.
_DATED = (
    "{%- macro strftime_now(format) -%}{%- set ns = namespace(text=format) -%}"
    "{%- for directive, value in understudy_date.items() -%}"
    "{%- set ns.text = ns.text.replace(directive, value) -%}{%- endfor -%}{{- ns.text -}}"
    "{%- endmacro %}\n"
)

# Private-use characters, which no normalizer changes.
_OPEN, _CLOSE, _HIDE, _SHOW = "\ue0f0", "\ue0f1", "\ue0f2", "\ue0f3"

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
        raise ModelError(f"student.tokenizer: {folder} contains no tokenizer")
    return jsonio.digest({path.name: jsonio.file_digest(path) for path in files})


def tokenizer_files(folder: Path) -> list[Path]:
    """Return the files in a folder that decide tokens or the chat template, sorted by name."""
    return sorted({path for pattern in _FILES for path in folder.glob(pattern) if path.is_file()})


@dataclass(frozen=True, slots=True)
class _Files:
    """A tokenizer's files: equal contents in two folders are equal."""

    digest: str
    folder: Path = field(compare=False)

    @classmethod
    def of(cls, folder: Path) -> _Files:
        contents = {path.name: jsonio.file_digest(path) for path in tokenizer_files(folder)}
        return cls(jsonio.digest(contents), folder)


@lru_cache(maxsize=2)
def _read(files: _Files) -> Any:
    """Read a tokenizer; a run, its bundle and the next run of the process share one, which nobody changes."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(files.folder), use_fast=True)  # nosec B615  # a local folder


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
    """A tokenizer with a chat template, to which `template_args` are passed, and `date` (YYYY-MM-DD) as the
    current date, so that a prompt does not depend on when it is rendered."""

    inner: Any
    folder: Path
    template_args: Mapping[str, Any]
    control: ControlTokens
    date: str

    @classmethod
    def load(cls, folder: Path, template_args: Mapping[str, Any], day: str = TEMPLATE_DATE) -> ChatTokenizer:
        """Load from a local folder. Raises ModelError if it has no fast tokenizer with a chat template."""
        try:
            inner = _read(_Files.of(folder))
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
        return cls(inner, folder, template_args, control, day)

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
            # The value of each directive at the beginning of the day, longer directives first.
            begin = datetime.combine(date.fromisoformat(self.date), time())
            values = {f"%{c}": begin.strftime(f"%{c}") for c in "aAbBcdfHIjmMpSuUVwWxXyYzZGDFTeRhn%"}
            bare = {f"%-{c}": str(int(values[f"%{c}"])) for c in "dHIjmMSUWy"}
            args["understudy_date"] = {**bare, **values}
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
        """Encode user texts; the text of a control token in them is plain text."""
        return [self.control.encode(text) for text in texts]

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of generated tokens without special tokens."""
        options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        return str(self.inner.decode(list(tokens), **options))


@dataclass(frozen=True, slots=True)
class _Copy:
    """A tokenizer with marks; `ids` are those that it gives added tokens instead of their own, and
    `forgeable` are the control tokens that its model could build from plain text."""

    tokenizer: Tokenizer
    ids: Mapping[int, int]
    forgeable: frozenset[int | None]


class ControlTokens:
    """The control tokens (`<|im_end|>`, `</think>`) of a tokenizer, and a copy of it that keeps them apart.

    They are all special tokens, and the other added tokens unless they are plain words or whitespace. In the
    copy each has a random text, which cannot occur in a user's text; `mark` inserts these into the template's
    text. A whole prompt is then tokenized at once, exactly as by the tokenizer, except for control tokens
    inside texts. `unknown` is the id for characters outside the vocabulary.
    """

    def __init__(self, source: Tokenizer, template: str, unknown: int | None = None) -> None:
        added: Mapping[int, AddedToken] = source.get_added_tokens_decoder()
        self.ids = dict[str, int]()
        for i, token in added.items():
            bare = token.content.replace("\u2581", "").strip()
            is_word = not bare or (token.content not in template and bare.replace(" ", "").isalnum())
            if token.special or not is_word:
                self.ids[token.content] = i
        self._source, self._added, self._unknown = source, added, unknown
        self._key = secrets.token_hex(8)
        self._texts = sorted(self.ids, key=lambda text: (-len(text), text))
        self._find = re.compile("|".join(map(re.escape, self._texts)) or "(?!)")
        self._number = {text: i for i, text in enumerate(self._texts)}
        self._marks = re.compile(f"{_OPEN}{self._key}([0-9]+){_CLOSE}")
        self._hidden = re.compile(f"{_HIDE}{self._key}([0-9]+){_SHOW}")
        self._copy = self._copy_with(source.model)
        self.encode("\n".join(self._texts))

    def mark(self, text: str) -> str:
        """Return template text with its control tokens marked."""
        return self._find.sub(lambda m: self._mark_of(m.group()), text)

    def first_mark(self, text: str) -> tuple[str, str, int | None]:
        """Return the text before the first mark, the mark, and its token's id; "" and None without one."""
        found = self._marks.search(text)
        if found is None:
            return text, "", None
        return text[: found.start()], found.group(), self.ids[self._texts[int(found.group(1))]]

    def last_mark(self, text: str) -> int:
        """Return where the last marked control token begins; 0 without one."""
        return max((m.start() for m in self._marks.finditer(text)), default=0)

    def hide(self, text: str) -> str:
        """Return a message's content with its control tokens hidden from the template and from `mark`."""
        return self._find.sub(lambda m: f"{_HIDE}{self._key}{self._number[m.group()]}{_SHOW}", text)

    def show(self, text: str) -> str:
        """Invert `hide` in the text that the template returned."""
        return self._hidden.sub(lambda m: self._texts[int(m.group(1))], text)

    def plain(self, text: str) -> str:
        """Return marked text without marks."""
        return self._marks.sub(lambda m: self._texts[int(m.group(1))], text)

    def encode(self, text: str) -> TextTokens:
        """Tokenize marked text: only marks become control tokens."""
        copy = self._copy
        found = copy.tokenizer.encode(text, add_special_tokens=False)
        if not copy.forgeable.isdisjoint(found.ids):
            # Some models build control tokens from plain text, as Unigram models do with any piece: use a
            # copy whose model does not have their texts either.
            state = json.loads(self._source.to_str())
            state |= {"added_tokens": [], "post_processor": None}
            _rename(state["model"], {i: self._mark_of(text) for text, i in self.ids.items()})
            self._copy = copy = self._copy_with(type(self._source).from_str(json.dumps(state)).model)
            found = copy.tokenizer.encode(text, add_special_tokens=False)
        return TextTokens(tuple(copy.ids.get(i, i) for i in found.ids), tuple(found.offsets), text)

    def _mark_of(self, text: str) -> str:
        return f"{_OPEN}{self._key}{self._number[text]}{_CLOSE}"

    def _copy_with(self, model: Any) -> _Copy:
        """Return a copy of the tokenizer over `model`, with marks for control tokens."""
        from tokenizers import AddedToken, Tokenizer

        own = Tokenizer(model)
        if self._source.normalizer is not None:
            own.normalizer = self._source.normalizer
        if self._source.pre_tokenizer is not None:
            own.pre_tokenizer = self._source.pre_tokenizer
        names = {
            i: self._mark_of(token.content) if token.content in self.ids else token.content
            for i, token in sorted(self._added.items())
        }
        flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
        own.add_tokens(
            [AddedToken(name, **{f: getattr(self._added[i], f) for f in flags}) for i, name in names.items()]
        )
        ids = {new: i for i, name in names.items() if (new := own.token_to_id(name)) is not None}
        if any(new not in self._added and self._source.id_to_token(new) is not None for new in ids):
            raise ModelError(
                "the tokenizer's vocabulary has gaps in its numbering, so control tokens cannot be kept out "
                "of texts; set student.tokenizer to one without"
            )
        forgeable = frozenset(self.ids.values()) - {*ids, self._unknown}
        return _Copy(own, {new: i for new, i in ids.items() if new != i}, forgeable)


def _rename(model: dict[str, Any], names: Mapping[int, str]) -> None:
    """Give vocabulary entries other texts, and drop the merges that lead to them."""
    if isinstance(model["vocab"], list):  # Unigram: [text, score] by id
        model["vocab"] = [[names.get(i, text), score] for i, (text, score) in enumerate(model["vocab"])]
        return
    renamed = {text: names[i] for text, i in model["vocab"].items() if i in names}
    model["vocab"] = {renamed.get(text, text): i for text, i in model["vocab"].items()}
    if model.get("unk_token") in renamed:
        model["unk_token"] = renamed[model["unk_token"]]
    if "merges" in model:
        pairs = [m.split(" ") if isinstance(m, str) else m for m in model["merges"]]
        model["merges"] = [[a, b] for a, b in pairs if renamed.keys().isdisjoint({a, b, a + b})]
