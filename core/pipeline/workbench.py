"""What several stages of one run need: model, tokenizer, prompts, rulebook, engine.

Each is opened on first use, so that a run whose stages are all reused loads neither torch nor a
tokenizer.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from core import jsonio
from core.config import Config
from core.engines.base import Engine
from core.engines.opening import open_engine, remote_ingredients
from core.errors import PromptError
from core.prompts import Message, Prompts, load_prompts
from core.rulebook import Rulebook, load_rulebook
from core.student.encoding import Encoder, EncodeSlice
from core.student.tokenizer import ChatTokenizer, tokenizer_digest

if TYPE_CHECKING:
    from core.engines.local.weights import ModelSource
    from core.engines.tinker import TinkerEngine


class Workbench:
    """The tools of one run; not an ingredient of any key, its digests are."""

    def __init__(self, config: Config) -> None:
        self.config = config

    @cached_property
    def prompts(self) -> Prompts:
        """The checked templates."""
        return load_prompts(self.config.prompts)

    @cached_property
    def rulebook(self) -> Rulebook:
        """The policy."""
        return load_rulebook(self.config.rules)

    @cached_property
    def source(self) -> ModelSource:
        """The local engine's base model, its folder and digest; a GGUF file is converted here, once."""
        from core.engines.local.weights import resolve_model

        return resolve_model(self.config.student.model)

    @cached_property
    def local_source(self) -> ModelSource | None:
        """A remote engine's base model as the local engine reads it, where the config names one."""
        from core.engines.local.weights import resolve_model

        named = self.config.student.local_model
        return None if named is None else resolve_model(named)

    @property
    def base_digest(self) -> str:
        """What stands for the base model in keys, checkpoints and pointers."""
        return self.base["base_model"]

    @cached_property
    def base(self) -> dict[str, str]:
        """The base model's digest, and of a remote engine the server."""
        if self.config.student.engine == "local":
            return {"base_model": self.source.digest}
        return remote_ingredients(self.config.student)

    @cached_property
    def tokenizer_folder(self) -> Path:
        """Where the tokenizer is: with the model, or where student.tokenizer says."""
        student = self.config.student
        if student.tokenizer is None and student.engine == "local":
            return self.source.folder
        from core.engines.local.weights import resolve_tokenizer

        return resolve_tokenizer(student.tokenizer or student.model)

    @cached_property
    def tokenizer(self) -> ChatTokenizer:
        """The loaded tokenizer."""
        student = self.config.student
        return ChatTokenizer.load(self.tokenizer_folder, student.chat_template_args, student.template_date)

    @cached_property
    def engine(self) -> Engine:
        """The engine over the base model."""
        return open_engine(self.config.student, lambda: self.source)

    def close(self) -> None:
        """End a remote engine's session, where it was opened: it would be kept alive for ever."""
        if self.config.student.engine != "local" and "engine" in vars(self):
            self.remote_engine.close()

    @property
    def remote_engine(self) -> TinkerEngine:
        """The engine, where it is a remote one."""
        from core.engines.tinker import TinkerEngine

        assert isinstance(self.engine, TinkerEngine), "only a remote engine's checkpoints are taken home"
        return self.engine

    def encoder(self, label_only: bool = False) -> Encoder:
        """The encoder of the student's prompt, or of the label-only prompt."""
        return self.encoder_of(EncodeSlice.of(self.config.student), label_only)

    def encoder_of(self, prompt: EncodeSlice, label_only: bool) -> Encoder:
        """The encoder of a prompt that may show the rulebook though the student's does not, or hide it.

        Texts then have the room that they have in the student's own prompt: both are asked about the same.
        """
        encoder = self._encoder(prompt, label_only)
        if prompt.rulebook == self.config.student.rulebook:
            return encoder
        longer = len(encoder.frame) - len(self.encoder(label_only).frame)
        same_room = prompt.model_copy(update={"max_length": prompt.max_length + longer})
        return self._encoder(same_room, label_only)

    def _encoder(self, prompt: EncodeSlice, label_only: bool) -> Encoder:
        shown = self.rulebook.text if prompt.rulebook else None
        return Encoder(self.tokenizer, self.prompts, shown, prompt, label_only=label_only)

    def check_room(self, rulebook: bool | None = None) -> None:
        """Raise PromptError where a prompt does not fit even without its text, or into the model's context.

        With `rulebook`, that of the prompt that shows it or not, whatever the student's own does.
        """
        student = self.config.student
        prompt = EncodeSlice.of(student)
        if rulebook is not None:
            prompt = prompt.model_copy(update={"rulebook": rulebook})
        for label_only in (False, True):
            encoder = self.encoder_of(prompt, label_only)
            reasons = encoder.target == "reason_first"
            reasoning = self.config.evaluation.max_new_tokens if reasons else 0
            encoder.require_room(encoder.label_tokens + reasoning)
            if self.context is not None and encoder.max_length > self.context:
                raise PromptError(
                    f"the student is asked with up to {encoder.max_length} tokens, but {student.model} has "
                    f"room for {self.context}: lower student.max_length"
                )

    @cached_property
    def context(self) -> int | None:
        """The tokens that a local base model was made for; None where nobody says."""
        if self.config.student.engine != "local":
            return None
        found: int | None = jsonio.read_json(self.source.folder / "config.json").get(
            "max_position_embeddings"
        )
        return found

    def frame(self, *, label_only: bool) -> tuple[Message, ...]:
        """The student's prompt with a slot for the text. Raises PromptError where it is missing."""
        rulebook = self.rulebook.text if self.config.student.rulebook else None
        return self.prompts.student_frame(rulebook, label_only=label_only)

    def student_messages(self, text: str) -> tuple[Message, ...]:
        """What the student is asked of one text, before any tokenizer."""
        student = self.config.student
        rulebook = self.rulebook.text if student.rulebook else None
        return self.prompts.student_messages(text, rulebook, label_only=student.target == "label_only")

    def token_content(self, rulebook: bool | None = None) -> dict[str, str]:
        """Digests of what decides the student's tokens, besides the config.

        With `rulebook`, of the prompt that shows it or not, whatever the student's own does.
        """
        shown = self.config.student.rulebook if rulebook is None else rulebook
        content = {"student_prompts": self._frames(shown)}
        if self.config.student.engine == "local":
            content["base_model"] = self.base_digest
        if self.config.student.tokenizer is not None or self.config.student.engine != "local":
            content["tokenizer"] = tokenizer_digest(self.tokenizer_folder)
        if shown:
            content["rulebook"] = self.rulebook.digest
        if shown != self.config.student.rulebook:  # its length decides how far texts are cut
            content["own_prompts"] = self._frames(self.config.student.rulebook)
            content["rulebook"] = self.rulebook.digest
        return content

    def student_content(self, rulebook: bool | None = None) -> dict[str, str]:
        """Digests of what decides the student's tokens and scores, besides the config."""
        return {**self.base, **self.token_content(rulebook)}

    def _frames(self, rulebook: bool) -> str:
        """Digest of the two templates that are used: the target's own, and the label-only one."""
        return jsonio.digest(
            [self.prompts.frame_digest(rulebook=rulebook, label_only=x) for x in (False, True)]
        )
