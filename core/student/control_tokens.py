"""Tokenize text so that only the chat template can write control tokens.

A tokenizer finds the text of a control token (`<|im_end|>`, `</think>`) wherever it occurs, also in the
middle of a user's text. Here a copy of the tokenizer gives each control token another text, which is drawn
at random and so cannot occur in a user's text. `mark` inserts these into the template's text; a whole prompt
is then tokenized at once, exactly as by the tokenizer, except for control tokens inside texts.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Tokenizer

from core.errors import ModelError
from core.student.tokenizer import TextTokens

# Private-use characters, which no normalizer changes.
_OPEN, _CLOSE, _HIDE, _SHOW = "\ue0f0", "\ue0f1", "\ue0f2", "\ue0f3"


@dataclass(frozen=True, slots=True)
class _Copy:
    """A tokenizer with marks; `ids` are those that it gives added tokens instead of their own, and
    `forgeable` are the control tokens that its model could build from plain text."""

    tokenizer: Tokenizer
    ids: Mapping[int, int]
    forgeable: frozenset[int | None]


class ControlTokens:
    """The control tokens of a tokenizer, and a tokenizer for text that cannot contain any.

    Control tokens are all special tokens, and the other added tokens unless they are plain words or
    whitespace, which are vocabulary like any other. `unknown` is the id for characters outside the
    vocabulary.
    """

    def __init__(self, source: Tokenizer, template: str, unknown: int | None = None) -> None:
        added: Mapping[int, AddedToken] = source.get_added_tokens_decoder()
        self.ids = {token.content: i for i, token in added.items() if _is_control(token, template)}
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
        """Return template text with its control tokens marked as such."""
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
            self._copy = copy = self._copy_with(Tokenizer.from_str(json.dumps(state)).model)
            found = copy.tokenizer.encode(text, add_special_tokens=False)
        return TextTokens(tuple(copy.ids.get(i, i) for i in found.ids), tuple(found.offsets), text)

    def _mark_of(self, text: str) -> str:
        return f"{_OPEN}{self._key}{self._number[text]}{_CLOSE}"

    def _copy_with(self, model: Any) -> _Copy:
        """Return a copy of the tokenizer over `model`, with marks for control tokens."""
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


def _is_control(token: AddedToken, template: str) -> bool:
    if token.special:
        return True
    bare = token.content.replace("\u2581", "").strip()
    return bool(bare) and (token.content in template or not bare.replace(" ", "").isalnum())


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
