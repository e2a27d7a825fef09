"""`bundle.json`: what a bundle holds and was made with, so that whoever loads it can refuse another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from core.errors import ModelError

Weights = Literal["adapter", "merged", "server"]
"""Which weights answer: the adapter over its base model, the bundle's merged ones, or those on the server
that trained them."""
FILE = "bundle.json"
FORMAT = 1
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
class Contents:
    """All of bundle.json; digests are sha256 in hex."""

    base: Base
    adapter_digest: str | None
    """Over the adapter's bytes; None where the untrained model was chosen."""
    prompt: Mapping[str, Any]
    """The fields of core.student.encoding.EncodeSlice, and `label_only`: whether that prompt asks."""
    prompts_digest: str
    tokenizer_digest: str
    template_digest: str
    rulebook_digest: str
    rule_ids: tuple[str, ...]
    labels: Mapping[str, tuple[str, ...]]
    """Names of the classes in the data, under "positive" and "negative"; the first is what is written."""
    columns: Mapping[str, str | None]
    """Names of the data's columns: "text", and "id" where there is one."""
    max_new_tokens: int
    """Longest reasoning, in tokens."""
    files: Mapping[str, str]
    """sha256 of each other file of the bundle, by its path inside."""
    encoder_digest: str | None = None
    """Encoder.digest: the tokens that the student is asked with. None in bundles of version 0.1."""
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        """The mapping that is written."""
        return asdict(self)


def from_json(value: Any, place: str) -> Contents:
    """The contents that `place` holds. Raises ModelError where they are of another format, or damaged."""
    found = value.get("format") if isinstance(value, dict) else None
    if found != FORMAT:
        raise ModelError(
            f"{place} is a bundle of format {found!r}, and this version reads {FORMAT}: "
            "export it again, or take the version of understudy that wrote it"
        )
    try:
        fields = {**value, "base": Base(**value["base"]), "rule_ids": tuple(value["rule_ids"])}
        fields["labels"] = {name: tuple(names) for name, names in value["labels"].items()}
        return Contents(**fields)
    except (KeyError, TypeError, AttributeError) as e:
        raise ModelError(f"{place} is damaged ({e}): export the run again, or fetch the bundle anew") from e
