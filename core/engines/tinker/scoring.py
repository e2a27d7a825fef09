"""Three methods to score choices after prompts on a server, the best first.

TargetLogprobs names the tokens at each place and gets their exact values in one request a row. TopLogprobs
gets the most likely tokens at the label's place in one request a row, and an upper bound for a choice that is
not among them. EachChoice gets exact values in one request for each choice of a row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from core.engines.sampling import ChoicePlan, GenerateParams, Rows, choice_plan
from core.engines.tinker import sdk

TOP_K = 20
Tokens = tuple[int, ...]
PREFILL = GenerateParams(max_tokens=1)
"""A prompt is computed by sampling one token after it."""


class NotGiven(Exception):
    """The server ignored the option: it does not support this method."""


class Incomplete(Exception):
    """The server's answer is missing something for this row; the message states what."""


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """A prompt to compute and its options, and how many continuations to sample with `params`."""

    prompt: Tokens
    options: dict[str, Any]
    params: GenerateParams = PREFILL
    samples: int = 1


@dataclass(frozen=True, slots=True)
class RowScore:
    """Log-probabilities (nats) of all choices after one prompt; `bounds` are the choices with a bound."""

    logprobs: tuple[float, ...]
    bounds: tuple[int, ...] = ()


class Method(Protocol):
    @property
    def name(self) -> str: ...

    def requests(self, prompt: Tokens) -> list[SampleRequest]:
        """Return the requests for one row."""

    def read(self, prompt: Tokens, answers: Sequence[Any]) -> RowScore:
        """Read their answers. Raises NotGiven, Incomplete."""


def methods(choices: Rows) -> list[Method]:
    """Return the methods that the SDK supports, the best first."""
    plan = choice_plan(choices)
    found: list[Method] = [TargetLogprobs(plan)] if sdk.is_current() else []
    return [*found, TopLogprobs(plan), EachChoice(plan.choices)]


@dataclass(frozen=True, slots=True)
class TargetLogprobs:
    """Names the tokens of all choices at their places (SDK 0.38 and later)."""

    plan: ChoicePlan
    name: str = "target_prompt_logprobs"

    def requests(self, prompt: Tokens) -> list[SampleRequest]:
        requests = []
        for head, tail in enumerate(self.plan.heads):
            named = self._named(head)
            # The last token is at a choice's place; it does not affect the places before it.
            whole = (*prompt, *tail, self.plan.tokens[0])
            pointers = [0] * len(prompt)
            for tokens in named:
                pointers.append(pointers[-1] + len(tokens))
            tensor = sdk.load().types.TensorData(
                data=[token for tokens in named for token in tokens],
                dtype="int64",
                shape=[len(whole) - 1, max(map(len, named))],
                sparse_crow_indices=pointers,
                sparse_col_indices=[i for tokens in named for i in range(len(tokens))],
            )
            requests.append(SampleRequest(whole, {"target_prompt_logprobs": tensor}))
        return requests

    def read(self, prompt: Tokens, answers: Sequence[Any]) -> RowScore:
        values = [0.0] * len(self.plan.choices)
        for head, answer in enumerate(answers):
            cells, named = _cells(answer.target_prompt_logprobs), self._named(head)
            for choice in self.plan.members[head]:
                for place, token in enumerate(self.plan.choices[choice]):
                    cell = len(prompt) - 1 + place, named[place].index(token)
                    values[choice] += _require(cells, cell, place)
        return RowScore(tuple(values))

    def _named(self, head: int) -> list[list[int]]:
        """For each place after the prompt, the tokens that are scored there, in order."""
        forms = [self.plan.choices[choice] for choice in self.plan.members[head]]
        places = range(len(self.plan.heads[head]) + 1)
        return [list(dict.fromkeys(form[at] for form in forms if at < len(form))) for at in places]


@dataclass(frozen=True, slots=True)
class TopLogprobs:
    """Requests the most likely tokens at the last place, and the prompt's own log-probabilities."""

    plan: ChoicePlan
    name: str = "topk_prompt_logprobs"

    def requests(self, prompt: Tokens) -> list[SampleRequest]:
        options = {"include_prompt_logprobs": True, "topk_prompt_logprobs": TOP_K}
        return [SampleRequest((*prompt, *head, self.plan.tokens[0]), options) for head in self.plan.heads]

    def read(self, prompt: Tokens, answers: Sequence[Any]) -> RowScore:
        values, bounds = [0.0] * len(self.plan.choices), set[int]()
        for head, answer in enumerate(answers):
            listing, tail = answer.topk_prompt_logprobs, self.plan.heads[head]
            if listing is None:
                raise NotGiven
            own = dict(enumerate(prompt_logprobs(answer, len(prompt) + len(tail) + 1)))
            for choice in self.plan.members[head]:
                for place, token in enumerate(self.plan.choices[choice]):
                    at = len(prompt) + place
                    if tail[place : place + 1] == (token,):
                        values[choice] += _require(own, at, place)
                        continue
                    listed = dict(listing[at] or ()) if at < len(listing) else {}
                    if not listed:
                        raise Incomplete(f"the answer is missing place {place} after the prompt")
                    if token not in listed:
                        bounds.add(choice)
                    values[choice] += listed[token] if token in listed else bound(list(listed.values()))
        return RowScore(tuple(values), tuple(sorted(bounds)))


@dataclass(frozen=True, slots=True)
class EachChoice:
    """Requests each choice by itself, as the end of a prompt, which every server supports."""

    choices: tuple[Tokens, ...]
    name: str = "prompt_logprobs, one request a choice"

    def requests(self, prompt: Tokens) -> list[SampleRequest]:
        options = {"include_prompt_logprobs": True}
        return [SampleRequest((*prompt, *choice), options) for choice in self.choices]

    def read(self, prompt: Tokens, answers: Sequence[Any]) -> RowScore:
        values = []
        for choice, answer in zip(self.choices, answers, strict=True):
            own = dict(enumerate(prompt_logprobs(answer, len(prompt) + len(choice))))
            values.append(sum(_require(own, len(prompt) + p, p) for p in range(len(choice))))
        return RowScore(tuple(values))


def prompt_logprobs(answer: Any, length: int) -> Sequence[float | None]:
    """Return the log-probabilities (nats) of a prompt of `length` tokens by place; the first is None.

    Some servers (SkyRL 0.3) omit the first and begin with the second. Raises NotGiven.
    """
    values: Sequence[float | None] | None = answer.prompt_logprobs
    if values is None:
        raise NotGiven
    begins_with_second = len(values) == length - 1 and values[:1] != [None]
    return [None, *values] if begins_with_second else values


def bound(listed: Sequence[float]) -> float:
    """Return the largest log-probability (nats) of a token that is not among the most likely, `listed`.

    It is at most the smallest of them, and at most what they leave over.
    """
    left = 1.0 - math.fsum(math.exp(value) for value in listed)
    # Rounding may leave a negative rest.
    return min(min(listed), math.log(max(left, 1e-7)))


def _cells(tensor: Any) -> dict[tuple[int, int], float]:
    """Return values by (row, column), from a dense or sparse tensor."""
    if tensor is None:
        raise NotGiven
    data, pointers = tensor.data, tensor.sparse_crow_indices
    if pointers is None:
        width = tensor.shape[1]
        return {divmod(i, width): value for i, value in enumerate(data)}
    rows = [row for row in range(len(pointers) - 1) for _ in range(pointers[row], pointers[row + 1])]
    return dict(zip(zip(rows, tensor.sparse_col_indices, strict=True), data, strict=True))


def _require(values: Mapping[Any, float | None], at: Any, place: int) -> float:
    value = values.get(at)
    if value is None or (not math.isfinite(value) and value != -math.inf):
        raise Incomplete(f"the answer is missing place {place} after the prompt")
    return float(value)
