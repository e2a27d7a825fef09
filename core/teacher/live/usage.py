"""Token counts of a reply: the larger of what its usage fields imply.

Servers disagree about reasoning. OpenAI counts it in completion_tokens; xAI leaves it out and adds it to
total_tokens; Gemini's compatibility layer leaves it out without naming it, so that only total_tokens tells.
Sources: https://github.com/vercel/ai/pull/12425 (xAI) and the rows of tests/core/teacher/live/dialects.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.prices import Usage

_MOST_TOKENS = 1_000_000_000
_NUMBER = re.compile(r"\s*\d{1,10}(\.\d+)?\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Counted:
    """What a reply used. `is_partial`: the fields do not say how long the prompt or the completion was.

    `conflict` names the fields where they contradict each other; empty where they do not.
    """

    usage: Usage
    is_partial: bool = False
    conflict: str = ""


def read_usage(found: Any) -> Counted | None:
    """Read the usage object of a reply; None where it counts nothing.

    Counts that cannot be true (negative, not a number, a billion) are left out. A completion shorter than its
    reasoning excludes it, and a prompt shorter than its cached part is at least that long.
    """
    if not isinstance(found, Mapping):
        return None
    cached, reasoning = _cached(found), _reasoning(found)
    said, written = _prompt(found), _first(found, "completion_tokens", "output_tokens")
    total = _count(found, "total_tokens")
    prompt = max(said or 0, cached, _hits(found) + _count(found, "prompt_cache_miss_tokens"))
    completion = (written or 0) + (reasoning if reasoning > (written or 0) else 0)
    says_prompt, says_completion = prompt > 0, written is not None or reasoning > 0
    if not says_prompt and says_completion:
        prompt = max(0, total - completion)
    completion = max(completion, total - prompt)
    if prompt + completion == 0:
        return None
    is_partial = not total and not (says_prompt and says_completion)
    return Counted(
        Usage(prompt, completion, min(cached, prompt)),
        is_partial or (prompt == 0 and says_completion),
        _conflict(said, written, total, reasoning, cached),
    )


def _conflict(prompt: int | None, written: int | None, total: int, reasoning: int, cached: int) -> str:
    disagree = (
        (total and prompt is not None and written is not None and total != prompt + written)
        or (written is not None and reasoning > written)
        or (prompt is not None and cached > prompt)
    )
    if not disagree:
        return ""
    counts = {
        "prompt": prompt,
        "completion": written,
        "total": total,
        "reasoning": reasoning,
        "cached": cached,
    }
    return ", ".join(f"{name} {count}" for name, count in counts.items() if count)


def _prompt(found: Mapping[str, Any]) -> int | None:
    """Prompt tokens; Anthropic's input_tokens exclude what was read from and written to the cache."""
    prompt = _first(found, "prompt_tokens")
    if prompt is None and (fresh := _first(found, "input_tokens")) is not None:
        caches = ("cache_read_input_tokens", "cache_creation_input_tokens")
        prompt = fresh + sum(_count(found, name) for name in caches)
    return prompt


def _cached(found: Mapping[str, Any]) -> int:
    details = found.get("prompt_tokens_details") or found.get("input_tokens_details")
    named = _count(details, "cached_tokens") if isinstance(details, Mapping) else 0
    return max(named, _hits(found), _count(found, "cached_tokens"), _count(found, "cache_read_input_tokens"))


def _hits(found: Mapping[str, Any]) -> int:
    """DeepSeek's name for cached tokens."""
    return _count(found, "prompt_cache_hit_tokens")


def _reasoning(found: Mapping[str, Any]) -> int:
    details = found.get("completion_tokens_details") or found.get("output_tokens_details")
    named = _count(details, "reasoning_tokens") if isinstance(details, Mapping) else 0
    return max(named, _count(found, "reasoning_tokens"))


def _count(found: Mapping[str, Any], name: str) -> int:
    return _first(found, name) or 0


def _first(found: Mapping[str, Any], *names: str) -> int | None:
    """The first of these fields that holds a count, rounded up; None where none does."""
    for name in names:
        value = found.get(name)
        if isinstance(value, str) and _NUMBER.fullmatch(value):
            value = float(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MOST_TOKENS:
            return math.ceil(value)
    return None
