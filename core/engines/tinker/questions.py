"""How a server is asked for the log-probabilities of choices after a prompt: three ways, best first.

Targets names the tokens at each place and gets their exact values in one request a row. TopK gets
the likeliest tokens at the label's place in one request a row, and an upper bound for a choice that
is not among them. Forms gets exact values in one request for each choice of a row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from core.engines.choices import ChoicePlan
from core.engines.tinker import sdk

Tokens = tuple[int, ...]


class NotGiven(Exception):
    """The server passed over what was asked for: it does not know this way of asking."""


class Incomplete(Exception):
    """The server's answer lacks something for this row; says what."""


@dataclass(frozen=True, slots=True)
class Question:
    """One request: a prompt to compute, what to tell of it, and how often to continue it."""

    prompt: Tokens
    options: dict[str, Any]
    samples: int = 1


@dataclass(frozen=True, slots=True)
class RowScore:
    """Log-probabilities (nats) of all choices after one prompt; `bounds` are the choices with a bound."""

    logprobs: tuple[float, ...]
    bounds: tuple[int, ...] = ()


class Way(Protocol):
    """A way of asking."""

    @property
    def name(self) -> str: ...

    @property
    def exact_at_once(self) -> bool:
        """Whether one request a row gives exact values."""

    def questions(self, prompt: Tokens) -> list[Question]:
        """What to ask for one row."""

    def read(self, prompt: Tokens, answers: Sequence[Any]) -> RowScore:
        """What was answered. Raises NotGiven, Incomplete."""


@dataclass(frozen=True, slots=True)
class Targets:
    """The tokens of all choices are named at their places (SDK 0.38 and later)."""

    plan: ChoicePlan
    name: str = "target_prompt_logprobs"
    exact_at_once: bool = True

    def questions(self, prompt: Tokens) -> list[Question]:
        return [self._question(prompt, i) for i in range(len(self.plan.heads))]

    def read(self, prompt: Tokens, answers: Sequence[Any]) -> RowScore:
        values = [0.0] * len(self.plan.steps)
        for i, answer in enumerate(answers):
            found = _cells(answer.target_prompt_logprobs)
            asked = self._asked(i)
            for choice in self.plan.members[i]:
                for place, token in self.plan.steps[choice]:
                    cell = len(prompt) - 1 + place, asked[place].index(token)
                    values[choice] += _value(found.get(cell), place)
        return RowScore(tuple(values))

    def _question(self, prompt: Tokens, head: int) -> Question:
        asked = self._asked(head)
        # The last token stands where a choice would: what it is does not matter to what is before it.
        whole = (*prompt, *self.plan.heads[head], self.plan.tokens[0])
        pointers = [0] * len(prompt)
        for tokens in asked:
            pointers.append(pointers[-1] + len(tokens))
        tensor = sdk.load().module.types.TensorData(
            data=[token for tokens in asked for token in tokens],
            dtype="int64",
            shape=[len(whole) - 1, max(map(len, asked))],
            sparse_crow_indices=pointers,
            sparse_col_indices=[i for tokens in asked for i in range(len(tokens))],
        )
        return Question(whole, {"target_prompt_logprobs": tensor})

    def _asked(self, head: int) -> list[list[int]]:
        """For each place after the prompt, the tokens that are scored there, in order."""
        asked: list[list[int]] = [[] for _ in range(len(self.plan.heads[head]) + 1)]
        for choice in self.plan.members[head]:
            for place, token in self.plan.steps[choice]:
                if token not in asked[place]:
                    asked[place].append(token)
        return asked


@dataclass(frozen=True, slots=True)
class TopK:
    """The `k` likeliest tokens at the last place, and the prompt's own log-probabilities before it."""

    plan: ChoicePlan
    k: int
    name: str = "topk_prompt_logprobs"
    exact_at_once: bool = False

    def questions(self, prompt: Tokens) -> list[Question]:
        options = {"include_prompt_logprobs": True, "topk_prompt_logprobs": self.k}
        return [Question((*prompt, *head, self.plan.tokens[0]), options) for head in self.plan.heads]

    def read(self, prompt: Tokens, answers: Sequence[Any]) -> RowScore:
        values, bounds = [0.0] * len(self.plan.steps), set[int]()
        for i, answer in enumerate(answers):
            if answer.topk_prompt_logprobs is None:
                raise NotGiven
            own = prompt_logprobs(answer, len(prompt) + len(self.plan.heads[i]) + 1)
            for choice in self.plan.members[i]:
                values[choice], bounded = self._read(prompt, i, choice, own, answer.topk_prompt_logprobs)
                if bounded:
                    bounds.add(choice)
        return RowScore(tuple(values), tuple(sorted(bounds)))

    def _read(
        self, prompt: Tokens, head: int, choice: int, own: Sequence[Any], listing: Sequence[Any]
    ) -> tuple[float, bool]:
        total, bounded = 0.0, False
        for place, token in self.plan.steps[choice]:
            at = len(prompt) + place
            if self.plan.heads[head][place : place + 1] == (token,):
                total += _value(_at(own, at), place)
                continue
            listed = dict(_at(listing, at) or ())
            if not listed:
                raise Incomplete(f"the answer lacks place {place} after the prompt")
            bounded |= token not in listed
            total += listed[token] if token in listed else bound(list(listed.values()))
        return total, bounded


@dataclass(frozen=True, slots=True)
class Forms:
    """Each choice is asked for by itself, as the end of a prompt: what every server can do."""

    choices: tuple[Tokens, ...]
    name: str = "prompt_logprobs, one request a choice"
    exact_at_once: bool = False

    def questions(self, prompt: Tokens) -> list[Question]:
        return [Question((*prompt, *choice), {"include_prompt_logprobs": True}) for choice in self.choices]

    def read(self, prompt: Tokens, answers: Sequence[Any]) -> RowScore:
        values = []
        for choice, answer in zip(self.choices, answers, strict=True):
            own = prompt_logprobs(answer, len(prompt) + len(choice))
            values.append(sum(_value(_at(own, len(prompt) + p), p) for p in range(len(choice))))
        return RowScore(tuple(values))


def ways(plan: ChoicePlan, choices: Sequence[Sequence[int]], k: int) -> list[Way]:
    """Those that the SDK can ask, the best first."""
    found: list[Way] = [Targets(plan)] if sdk.load().targets else []
    return [*found, TopK(plan, k), Forms(tuple(tuple(choice) for choice in choices))]


def prompt_logprobs(answer: Any, length: int) -> Sequence[float | None]:
    """Log-probabilities (nats) of a prompt of `length` tokens by their places; the first has None.

    Some servers (SkyRL 0.3) leave the first out and begin with the second. Raises NotGiven.
    """
    values: Sequence[float | None] | None = answer.prompt_logprobs
    if values is None:
        raise NotGiven
    begins_with_second = len(values) == length - 1 and values[:1] != [None]
    return [None, *values] if begins_with_second else values


def bound(listed: Sequence[float]) -> float:
    """The most that a token can have (nats) which is not among the likeliest, these being `listed`.

    It has no more than the least of them, and no more than what they leave over.
    """
    left = 1.0 - math.fsum(math.exp(value) for value in listed)
    # Rounding may leave less than nothing.
    return min(min(listed), math.log(max(left, 1e-7)))


def _cells(tensor: Any) -> dict[tuple[int, int], float]:
    """Values by (row, column), from either layout."""
    if tensor is None:
        raise NotGiven
    data, pointers = tensor.data, tensor.sparse_crow_indices
    if pointers is None:
        width = tensor.shape[1]
        return {divmod(i, width): value for i, value in enumerate(data)}
    rows = [row for row in range(len(pointers) - 1) for _ in range(pointers[row], pointers[row + 1])]
    return dict(zip(zip(rows, tensor.sparse_col_indices, strict=True), data, strict=True))


def _at(values: Sequence[Any], place: int) -> Any:
    return values[place] if place < len(values) else None


def _value(found: float | None, place: int) -> float:
    if found is None or (not math.isfinite(found) and found != -math.inf):
        raise Incomplete(f"the answer lacks place {place} after the prompt")
    return float(found)
