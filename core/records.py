"""The rows that stages exchange: frozen values, never dictionaries."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal, TypeVar

T = TypeVar("T")
SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Example:
    """One labeled text. `label` is 1 for the positive class; `group` keeps rows together."""

    id: str
    text: str
    label: int
    group: str | None = None


def text_id(text: str) -> str:
    """The id of a text without an id column: 16 hex digits of sha256 over the stripped text, UTF-8."""
    return hashlib.sha256(text.strip().encode("utf-8")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class TeacherAnswer:
    """One answer of the teacher to one text, raw and parsed.

    `label` and `reasoning` are None if the output could not be parsed; `error` is then the reason.
    `parse_source` names the way it was parsed ("json", "think_label", "pattern", "fields", ...).
    `reasoning_content` is the thinking of a thinking model before its answer. Token counts, of which
    `cached_tokens` are among `prompt_tokens`, and the latency in seconds are None if unknown.
    """

    example_id: str
    sample: int
    model: str
    raw_output: str
    parse_ok: bool
    parse_source: str | None
    label: int | None
    reasoning: str | None
    error: str | None = None
    finish_reason: str | None = None
    temperature: float | None = None
    hinted: bool = False
    reasoning_content: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    latency_s: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of one rejection rule for one answer."""

    rule: str
    rejected: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class AcceptedSample:
    """An answer worth learning, with its text."""

    sample_id: str
    example_id: str
    text: str
    label: int
    reasoning: str


def batched(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` rows in order, as itertools.batched of Python 3.12; only one is held."""
    remaining = iter(rows)
    while batch := list(islice(remaining, size)):
        yield batch
