"""`bundle.json`: what a bundle contains and was built with, so that loading can refuse anything else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

from core.errors import ModelError
from core.jsonio import InvalidFile, Record
from core.student.encoding import EncodeSettings

FILE = "bundle.json"
FORMAT: Literal[1] = 1
ADAPTER = "adapter"
MERGED = "merged"
TOKENIZER = "tokenizer"
PROMPTS = "prompts.yaml"
RULEBOOK = "rulebook.txt"
DECISION = "decision.json"
PARITY = "parity.json"
CARD = "README.md"


@dataclass(frozen=True, slots=True)
class Base:
    """The base model: `spec` as the config names it, `digest` over its files or a server's name for it."""

    engine: str
    spec: str
    digest: str
    server: str | None = None
    sampler_path: str | None = None
    """tinker: the chosen weights on the server."""
    local_spec: str | None = None
    """tinker: the same base model as the local engine reads it, with `local_digest`."""
    local_digest: str | None = None


@dataclass(frozen=True, slots=True)
class Labels:
    """Names of the classes in the data; the first is the one that is written."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the data's columns; `id` is None if there is none."""

    text: str
    id: str | None = None


class BundlePrompt(EncodeSettings):
    """How the student is asked."""

    label_only: bool
    """Whether the label-only prompt is used instead of the one it was trained on."""


class _Format(Record):
    format: object = None


class Contents(Record):
    """The content of bundle.json; digests are sha256 in hex."""

    base: Base
    adapter_digest: str | None
    """Over the adapter's bytes; None if the untrained model was chosen."""
    prompt: BundlePrompt
    prompts_digest: str
    tokenizer_digest: str
    template_digest: str
    rulebook_digest: str
    rule_ids: tuple[str, ...]
    labels: Labels
    columns: Columns
    max_new_tokens: int
    """Longest reasoning, in tokens."""
    files: dict[str, str]
    """sha256 of each other file of the bundle, by its path inside."""
    encoder_digest: str | None = None
    """Encoder.digest: the tokens that the student is asked with. None in bundles of version 0.1."""
    format: Literal[1] = FORMAT

    @classmethod
    def from_json(cls, value: Any, place: str) -> Self:
        """Return the contents in a JSON value. Raises ModelError for another format and damaged contents."""
        try:
            version = _Format.from_json(value, place).format
            if version not in (None, FORMAT):  # without one it is not a bundle.json, and damaged
                raise ModelError(
                    f"{place} is a bundle of format {version!r}, and this version reads {FORMAT}: "
                    "export it again, or use the version of understudy that wrote it"
                )
            return super().from_json(value, place)
        except InvalidFile as e:
            raise ModelError(
                f"{place} is damaged ({e}): export the run again, or copy the bundle again"
            ) from e
