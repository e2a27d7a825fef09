"""Completions, and parsers that read what they mean and whether they are usable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from core.completions.reply import Reply, ending
from core.completions.request import ChatRequest


class Parsed(Protocol):
    """What a parser returns: whether a completion is usable, and if not, a short code for the reason."""

    @property
    def ok(self) -> bool: ...

    @property
    def error(self) -> str | None: ...


P = TypeVar("P", bound=Parsed)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a completion is unusable: a code, what is wrong in words, and how to fix it."""

    code: str
    what: str
    remedy: str


class Parser(Protocol[P]):
    """Reads completions. Each is parsed once; `problem` returns None for a usable one."""

    def parse(self, reply: Reply) -> P: ...

    def problem(self, reply: Reply, parsed: P) -> Problem | None: ...


@dataclass(frozen=True, slots=True)
class Completion(Generic[P]):
    """A request with its stored reply and the parsed content."""

    request: ChatRequest
    reply: Reply
    parsed: P


@dataclass(frozen=True, slots=True)
class Text:
    """A completion as it is; not ok where it is empty, cut off or withheld."""

    text: str
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the completion is whole."""
        return self.error is None


class TextParser:
    """Takes completions as they are."""

    def parse(self, reply: Reply) -> Text:
        """Return the text, with `error` where it is unusable."""
        text, how = reply.raw_output.strip(), ending(reply.finish_reason)
        if how in ("truncated", "filtered", "failed"):
            return Text(text, how)
        return Text(text, None if text else "empty")

    def problem(self, reply: Reply, parsed: Text) -> Problem | None:
        """Return why a completion is unusable, or None."""
        if parsed.error is None:
            return None
        return Problem(parsed.error, f"are {parsed.error}", "check the model, its token limit and the prompt")
