"""What the stages of a run share: model, tokenizer, prompts, rulebook, engine, live training session.

Each is opened on first use, so that a run whose stages are all reused loads neither torch nor a tokenizer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from core import jsonio
from core.base_model import resolve_tokenizer
from core.completions.client import api_key
from core.config import Config
from core.cost import price_of
from core.data import stage as split_stage
from core.engines import Capabilities, Engine
from core.errors import ConfigError, PromptError, UserError
from core.jsonio import Record
from core.prompts import Message, Prompts, load_prompts
from core.rulebook import Rulebook, load_rulebook
from core.student.encoding import Encoder, EncodeSettings
from core.student.tokenizer import ChatTokenizer, tokenizer_digest
from core.student.train_stage import LiveSession, checkpoint, lora_spec
from core.teacher import stage as sample_stage
from core.teacher.live import OpenJournal


@dataclass(frozen=True, slots=True)
class Phase:
    """A training phase: its folder in the run's folder, and what distinguishes its stages and files."""

    folder: str
    report: str
    page: str
    summary: str
    ledger: str
    slot: str = ""
    """Begins the second part of its stages' slots: evaluate/rl/10."""
    prefix: str = ""
    """Begins labels and log lines."""


STUDENT = Phase("student_phase", "test_report.md", "report.html", "run_summary.json", "ledger.json")
"""Learning from the teacher's answers."""
RL = Phase(
    folder="rl_phase",
    report="rl_phase/rl_report.md",
    page="rl_phase/report.html",
    summary="rl_phase/rl_summary.json",
    ledger="rl_phase/ledger.json",
    slot="rl/",
    prefix="RL ",
)
"""Learning from rewards for own answers."""


def is_rl(slot: str) -> bool:
    """Whether a slot of a run's record is of the RL phase, which also measures the start, as rl-start."""
    stage, _, rest = slot.partition("/")
    return stage in ("reinforce", "reward") or rest.partition("/")[0] in ("rl", "rl-start")


class _ModelConfig(Record):
    """What is read of a base model's config.json."""

    max_position_embeddings: int | None = None


class RunContext:
    """What the stages of one run share. Keys contain its digests."""

    def __init__(self, config: Config, journal: OpenJournal | None = None) -> None:
        """`journal` opens the journal of the run's root, which a live teacher needs."""
        self.config, self.journal = config, journal
        self.live: LiveSession = LiveSession()

    def close(self) -> None:
        self.live.close()
        if "engine" in vars(self):
            self.engine.close()

    @cached_property
    def prompts(self) -> Prompts:
        return load_prompts(self.config.prompts)

    @cached_property
    def rulebook(self) -> Rulebook:
        return load_rulebook(self.config.rules)

    @cached_property
    def engine(self) -> Engine:
        return self.config.student.engine.open(self.config.student.model)

    @property
    def capabilities(self) -> Capabilities:
        """What the engine can do, and what it needs of the pipeline."""
        return self.config.student.engine.capabilities

    @cached_property
    def base_digest(self) -> str:
        """The digest of the base model in keys, checkpoints and pointers."""
        return self.engine.identity.base_digest

    @cached_property
    def base(self) -> dict[str, str]:
        """The base model's digest, and the server of a remote engine, as keys contain them."""
        server = self.engine.identity.server
        return {"base_model": self.base_digest, **({} if server is None else {"server": server})}

    @cached_property
    def model_length(self) -> int | None:
        """The context length of a local base model in tokens; None if its config does not state one."""
        folder = self._local_model
        return None if folder is None else _ModelConfig.read(folder / "config.json").max_position_embeddings

    @cached_property
    def tokenizer_folder(self) -> Path:
        """Where the tokenizer is: with the model, or at student.tokenizer."""
        student, folder = self.config.student, self._local_model
        if student.tokenizer is None and folder is not None:
            return folder
        return resolve_tokenizer(student.tokenizer or student.model)

    @cached_property
    def tokenizer(self) -> ChatTokenizer:
        student = self.config.student
        return ChatTokenizer.load(self.tokenizer_folder, student.chat_template_args, student.template_date)

    @property
    def _local_model(self) -> Path | None:
        """The folder of the base model if student.model names weights on this machine."""
        source = self.engine.local_model if self.capabilities.local_weights else None
        return None if source is None else source.folder

    def checkpoint_exists(self, folder: Path) -> bool:
        """Whether a segment's checkpoint still exists; `folder` has the segment's files."""
        return self.engine.checkpoint_exists(checkpoint(self.engine, folder))

    def encoder(self, label_only: bool = False) -> Encoder:
        """The encoder of the student's prompt, or of the label-only prompt."""
        return self.encoder_of(EncodeSettings.of(self.config.student), label_only)

    def encoder_of(self, prompt: EncodeSettings, label_only: bool) -> Encoder:
        """The encoder of a prompt that may show the rulebook though the student's does not, or hide it.

        Texts then have as much room as in the student's own prompt, so that both get the same text.
        """
        shown = self._rules(prompt.rulebook)
        encoder = Encoder(self.tokenizer, self.prompts, shown, prompt, label_only=label_only)
        if prompt.rulebook == self.config.student.rulebook:
            return encoder
        longer = len(encoder.frame) - len(self.encoder(label_only).frame)
        same_room = prompt.model_copy(update={"max_length": prompt.max_length + longer})
        return Encoder(self.tokenizer, self.prompts, shown, same_room, label_only=label_only)

    def check_room(self, rulebook: bool | None = None) -> None:
        """Raise PromptError if a prompt does not fit even without its text, or into the model's context.

        `rulebook` shows it or hides it; by default as in the student's own prompt.
        """
        student = self.config.student
        prompt = EncodeSettings.of(student)
        if rulebook is not None:
            prompt = prompt.model_copy(update={"rulebook": rulebook})
        for label_only in (False, True):
            encoder = self.encoder_of(prompt, label_only)
            reasons = encoder.target == "reason_first"
            reasoning = self.config.evaluation.max_new_tokens if reasons else 0
            encoder.require_room(encoder.label_tokens + reasoning)
            if self.model_length is not None and encoder.max_length > self.model_length:
                raise PromptError(
                    f"the student is asked with up to {encoder.max_length} tokens, but {student.model} has "
                    f"room for {self.model_length}: lower student.max_length"
                )

    def student_messages(self, text: str) -> tuple[Message, ...]:
        """The student's prompt for one text, before any tokenizer."""
        student = self.config.student
        label_only = student.target == "label_only"
        return self.prompts.student_messages(text, self._rules(student.rulebook), label_only=label_only)

    def student_frames(self) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
        """The student's prompt and the label-only prompt of the same target, with a slot for the text.

        Raises PromptError if a template lacks the slot.
        """
        shown = self._rules(self.config.student.rulebook)
        with_reasons = self.prompts.student_frame(shown, label_only=False)
        return with_reasons, self.prompts.student_frame(shown, label_only=True)

    @property
    def label_only_is_the_same(self) -> bool:
        """Whether the label-only prompt is the one the student was trained on and the label comes first, so
        that its scores are the student's own."""
        target, (with_reasons, label_only) = self.config.student.target, self.student_frames()
        return target == "label_only" or (target != "reason_first" and with_reasons == label_only)

    def token_content(self, rulebook: bool | None = None) -> dict[str, str]:
        """Digests of what decides the student's tokens, besides the config.

        `rulebook` shows it or hides it; by default as in the student's own prompt.
        """
        own, local = self.config.student.rulebook, self.capabilities.local_weights
        shown = own if rulebook is None else rulebook
        content = {"student_prompts": self._frame_digest(shown)}
        if local:
            content |= {"base_model": self.base_digest}
        if self.config.student.tokenizer is not None or not local:
            content |= {"tokenizer": tokenizer_digest(self.tokenizer_folder)}
        if shown or shown != own:
            content |= {"rulebook": self.rulebook.digest}
        if shown != own:  # the length of the student's own prompt decides how far texts are truncated
            content |= {"own_prompts": self._frame_digest(own)}
        return content

    def student_content(self, rulebook: bool | None = None) -> dict[str, str]:
        """Digests of what decides the student's tokens and scores, besides the config."""
        return {**self.base, **self.token_content(rulebook)}

    def preflight(self, *, online: bool = True) -> None:
        """Check model, rules, prompts, key and price before anything is done or paid for.

        Keys are needed only if `online`; the engine then checks its server too. Raises UserError.
        """
        config, student = self.config, self.config.student
        if config.teacher.kind == "openai":
            if online:
                api_key(config.teacher.endpoint)
            price_of(config.teacher.endpoint)
        self.student_content()
        self.student_frames()
        if student.adam.grad_clip_norm > 0 and not self.capabilities.grad_clipping:
            raise ConfigError(
                f"engine {student.engine.kind} does not clip gradients: set student.adam.grad_clip_norm to 0"
            )
        _ = self.engine.price  # reads the table
        if online:
            self.engine.check(lora_spec(student.lora, config.training_seed))

    def missing_keys(self) -> list[str]:
        """A sentence for each missing or wrong key that a run needs; a plan needs none."""
        found, teacher = [], self.config.teacher
        try:
            if teacher.kind == "openai":
                api_key(teacher.endpoint)
        except UserError as e:
            found.append(str(e))
        try:
            self.engine.require_credentials()
        except UserError as e:
            found.append(str(e))
        return found

    def _rules(self, shown: bool) -> str | None:
        return self.rulebook.text if shown else None

    def _frame_digest(self, rulebook: bool) -> str:
        """Digest of both templates in use: the target's own, and the label-only one."""
        return jsonio.digest(
            [self.prompts.frame_digest(rulebook=rulebook, label_only=x) for x in (False, True)]
        )


def check_files(config: Config) -> None:
    """Check the files that the config names, as far as that takes no time. Raises UserError."""
    split_stage.content(split_stage.SplitSettings.of(config))
    sample_stage.content(sample_stage.SampleSettings.of(config))
    RunContext(config).student_frames()
